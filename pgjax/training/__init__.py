"""Training as pure functions: the loop of updates, lanes side by side, and environments on the host."""

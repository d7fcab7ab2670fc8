"""Training as pure functions: the update loop as a scan, lanes by `vmap`, and a loop for environments in Python."""

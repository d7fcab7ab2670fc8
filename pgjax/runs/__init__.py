"""Runs: they are started, resumed, extended, replayed, written to a folder and read back."""

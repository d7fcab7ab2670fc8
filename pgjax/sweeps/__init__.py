"""Sweeps: what was asked for, as a checked plan of settings and seeds."""

"""Environments of other packages, one module for each suite: see `pgjax.envs.registry.SUITES`."""

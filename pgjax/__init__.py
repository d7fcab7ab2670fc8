"""pgjax: a functional research framework for policy gradients in JAX."""

__version__ = "0.1.0"

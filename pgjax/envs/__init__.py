"""A name, or the user's own factory, in; an `Env` out."""

from pgjax.envs.adapter import from_gymnax, make, names, with_params

__all__ = ["from_gymnax", "make", "names", "with_params"]

"""A name, or the user's own factory, in; an `Env` out."""

from pgjax.envs.adapter import from_gymnax, make, names, with_params
from pgjax.envs.gymnasium import from_gymnasium

__all__ = ["from_gymnasium", "from_gymnax", "make", "names", "with_params"]

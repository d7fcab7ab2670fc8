"""A name, or the user's own factory, in; an `Env` out."""

from pgjax.envs.gymnasium import from_gymnasium
from pgjax.envs.gymnax import from_gymnax
from pgjax.envs.parameters import with_params
from pgjax.envs.registry import make, names

__all__ = ["from_gymnasium", "from_gymnax", "make", "names", "with_params"]

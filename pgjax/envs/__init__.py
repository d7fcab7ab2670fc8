"""Environments: `make` builds an `Env` from a name, `from_gymnax` and `from_gymnasium` from the user's own class."""

from pgjax.envs.gymnasium import from_gymnasium
from pgjax.envs.gymnax import from_gymnax
from pgjax.envs.observations import masked
from pgjax.envs.parameters import with_params
from pgjax.envs.registry import make, names

__all__ = ["from_gymnasium", "from_gymnax", "make", "masked", "names", "with_params"]

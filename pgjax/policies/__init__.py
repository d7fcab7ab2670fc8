"""Policies: networks, distributions, and functions that make a `Policy` of them or wrap one."""

from pgjax.policies.modules import from_linen, from_nnx, functional
from pgjax.policies.recurrence import linear_memory, recurrent
from pgjax.policies.registry import make
from pgjax.policies.traits import has_memory
from pgjax.policies.wrappers import exploring, with_observation_moments

__all__ = [
    "exploring",
    "from_linen",
    "from_nnx",
    "functional",
    "has_memory",
    "linear_memory",
    "make",
    "recurrent",
    "with_observation_moments",
]

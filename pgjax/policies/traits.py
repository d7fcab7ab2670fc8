"""`has_memory`: the one trait that follows from a policy's functions; the others are declared fields of `Policy`."""

import functools

import jax

from pgjax.types import Policy


def has_memory(policy: Policy) -> bool:
    """Whether the policy has a memory, so that the order of steps matters."""
    return bool(jax.tree.leaves(jax.eval_shape(functools.partial(policy.memory, 1))))

"""A trait that a policy shows by itself: whether it has a memory. It declares the others as fields of `Policy`."""

import functools

import jax

from pgjax.types import Policy


def has_memory(policy: Policy) -> bool:
    """Whether the order of steps matters to the policy."""
    return bool(jax.tree.leaves(jax.eval_shape(functools.partial(policy.memory, 1))))

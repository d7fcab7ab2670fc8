"""Traits of a policy: whether it has memory, and whether it needs whole episodes."""

import functools

import jax

from pgjax.types import Policy


def by_observation(policy: Policy) -> bool:
    """Whether what it says of a step is known to depend on that step alone, and next_value to be value at next_obs."""
    return getattr(policy.evaluate, "by_observation", False)


def has_memory(policy: Policy) -> bool:
    """Whether the order of steps matters to the policy."""
    return bool(jax.tree.leaves(jax.eval_shape(functools.partial(policy.memory, 1))))


def needs_whole_episodes(policy: Policy) -> bool:
    """Whether what is evaluated must be whole episodes, each from its beginning on."""
    return getattr(policy.evaluate, "whole_episodes", False)

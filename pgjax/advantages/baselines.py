"""Baselines: what a Monte Carlo return is compared with."""

import jax.numpy as jnp

from pgjax.types import AdvantageFn, Array

BASELINES = ("none", "constant", "running_mean", "leave_one_out", "value")


def exact_value(expected_reward: Array) -> AdvantageFn:
    """The AdvantageFn r - sum_a pi(a | s) R(s, a), for worlds in which one decision is an episode: bandits.

    Its baseline is the exact value of the policy that is being learned, where others estimate it.

    Args:
      expected_reward: R, [S, A], of every discrete observation and action.
    """
    expected_reward = jnp.asarray(expected_reward)
    if expected_reward.ndim != 2:
        raise ValueError(f"exact_value: expected_reward must be [S, A], got shape {expected_reward.shape}")

    def exact_value(trajectory, now):
        pi = jnp.exp(now.dist.log_probs())
        if pi.shape[-1] != expected_reward.shape[1]:
            raise ValueError(f"exact_value: expected_reward has {expected_reward.shape[1]} actions, pi {pi.shape[-1]}")
        return trajectory.reward - jnp.sum(pi * expected_reward[trajectory.obs], axis=-1), now.value

    return exact_value


def mean_of_others(x: Array) -> Array:
    """For each column of [T, B], the mean of the other columns in the same row."""
    return (jnp.sum(x, axis=1, keepdims=True) - x) / (x.shape[1] - 1)

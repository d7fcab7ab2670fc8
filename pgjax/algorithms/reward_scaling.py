"""Rewards in; the same over the running standard deviation of their discounted return, out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgjax.numerics import running_moments, time_limits
from pgjax.types import Array, Trajectory


class RewardScale(NamedTuple):
    """The running spread of the discounted return, and the returns that are still open."""

    brought: Array  # [B] what the discounted return of the stream brings into the next step
    moments: running_moments.Moments


def start(num_envs: int) -> RewardScale:
    """Nothing seen yet of B = `num_envs` streams."""
    return RewardScale(jnp.zeros(num_envs), running_moments.empty(0.0))


def scale(state: RewardScale, trajectory: Trajectory, discount: Array) -> tuple[RewardScale, Trajectory]:
    """Rewards over the standard deviation of the discounted return, which starts anew with each episode."""
    _, carry = time_limits.discounts(trajectory.terminated, trajectory.truncated, discount)

    def accumulate(brought, inputs):
        reward, carry = inputs
        running = reward + brought
        return carry * running, running

    first = jnp.where(trajectory.time[0] == 0, 0.0, state.brought)
    last, seen = jax.lax.scan(accumulate, first, (trajectory.reward, carry))
    updated = running_moments.update(state.moments, seen, trajectory.mask)
    scaled = trajectory._replace(reward=trajectory.reward / running_moments.std(updated))
    return RewardScale(last, updated), scaled

"""Relative values of the average-reward setting, solved from a batch by least squares."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgjax.types import Array


class Relative(NamedTuple):
    """Gain and relative values of a policy: `oracle.Average` in float32, as a JAX function that can be vmapped."""

    gain: Array  # [] reward per step
    value: Array  # [S], stationary @ value = 0
    action_value: Array  # [S, A]
    stationary: Array  # [S]


def relative_values(transition: Array, reward: Array, pi: Array) -> Relative:
    """Gain, relative values and stationary distribution of pi [S, A] in a unichain MDP, by squaring matrices.

    q = R - gain + P v, v = sum_a pi q (Sutton & Barto 2018, sec. 10.3). A linear solve may not be compiled over lanes,
    so the lazy chain (I + P) / 2, which has no period, is squared 16 times: enough for chains whose slowest part
    decays over thousands of steps.

    Args:
      transition, reward: [S, A, S], [S, A]; where episodes end, take the tables of `oracle.continuing`.
    """
    chain = jnp.einsum("sa,sax->sx", pi, transition)
    identity = jnp.eye(len(chain))
    lazy = (identity + chain) / 2

    def square(power, _):
        power = power @ power
        return power / jnp.sum(power, axis=1, keepdims=True), None  # rounding would grow with the power

    stationary = jnp.mean(jax.lax.scan(square, lazy, length=16)[0], axis=0)
    earned = jnp.sum(pi * reward, axis=1)
    gain = stationary @ earned

    # sum_k M^k = (I + M) (I + M^2) (I + M^4) ..., M the lazy chain without its limit
    def double(carry, _):
        v, power = carry
        return (v + power @ v, power @ power), None

    # (I - lazy) v = (earned - gain) / 2 is (I - P) v = earned - gain.
    v = jax.lax.scan(double, ((earned - gain) / 2, lazy - stationary[None]), length=16)[0][0]
    v = v - stationary @ v
    return Relative(gain, v, reward - gain + transition @ v, stationary)

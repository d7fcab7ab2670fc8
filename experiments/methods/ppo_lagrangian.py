"""PPO-Lagrangian: a reward less a cost, whose multiplier grows while the cost is above its limit.

r_t - lambda c_t, and lambda = max(0, lambda + multiplier_rate (mean c - limit)) once for each batch, before it is
learned from. Here a step of CartPole costs 1 where the cart is further than 0.5 from the middle. Ray et al. 2019,
Benchmarking safe exploration in deep reinforcement learning; theirs limits the cost of an episode, this of a step, and
learns a critic of the cost apart.

    pgjax train ppo CartPole-v1 --advantage experiments/methods/ppo_lagrangian.py:ppo_lagrangian --set limit=0.01,0.1
"""

import jax.numpy as jnp

from pgjax import Running, advantages
from pgjax.hyperparameters import NonNegative
from pgjax.numerics import masked


def _cost(trajectory):
    return jnp.float32(jnp.abs(trajectory.next_obs[..., 0]) > 0.5)


def _penalised(multiplier, trajectory, now, *, limit: NonNegative = 0.1, multiplier_rate: NonNegative = 0.1):
    cost = _cost(trajectory)
    multiplier = jnp.maximum(0.0, multiplier + multiplier_rate * (masked.mean(cost, trajectory.mask) - limit))
    return multiplier, trajectory.reward - multiplier * cost


ppo_lagrangian = advantages.shaped(
    advantages.gae, Running(lambda *_: jnp.zeros(()), _penalised, metrics=lambda state: {"multiplier": state})
)

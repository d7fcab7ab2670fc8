"""Upgoing policy update: the return follows the actions taken for as long as they did better than the critic expects.

G_t = r_t + gamma G_{t+1} where r_{t+1} + gamma V(s_{t+2}) >= V(s_{t+1}), else r_t + gamma V(s_{t+1}): a lambda-return
with lambda 1 or 0. A_t = G_t - V_t; the critic's target is an ordinary lambda-return. Vinyals et al. 2019, Grandmaster
level in StarCraft II using multi-agent reinforcement learning.

    pgjax train a2c CartPole-v1 --advantage experiments/methods/upgo.py:upgo --set critic_lambda=0.8,1
"""

from typing import Annotated

import jax.numpy as jnp

from pgjax import Role, numerics
from pgjax.declarations import in_order
from pgjax.hyperparameters import Probability


@in_order
def upgo(trajectory, now, *, discount: Annotated[Probability, Role.DISCOUNT] = 0.99, critic_lambda: Probability = 0.8):
    """The upgoing return less the value, and the critic's target; each [T, B]."""
    ahead = (trajectory.reward, now.next_value, trajectory.terminated, trajectory.truncated, discount)
    bootstrap, _ = numerics.time_limits.discounts(*ahead[2:])
    better = (trajectory.reward + bootstrap * now.next_value >= now.value).astype(now.value.dtype)
    upgoing = numerics.returns.lambda_return(*ahead, jnp.concatenate([better[1:], better[-1:]]))
    return upgoing - now.value, numerics.returns.lambda_return(*ahead, critic_lambda)

"""Clip-higher: the ratio may rise further above 1 than it may fall below, so that unlikely actions can become likely.

min(rho A, clip(rho, 1 - eps_low, 1 + eps_high) A). Yu et al. 2025, DAPO: an open-source LLM reinforcement learning
system at scale.

    pgjax train ppo CartPole-v1 --loss experiments/methods/clip_higher.py:clip_higher --set eps_high=0.2,0.28
"""

import jax.numpy as jnp

from pgjax import losses
from pgjax.hyperparameters import Bound


@losses.by_step
def clip_higher(now, batch, *, eps_low: Bound = 0.2, eps_high: Bound = 0.28):
    """PPO's clipped surrogate with bounds of their own above and below; [T, B]."""
    ratio = jnp.exp(now.log_prob - batch.trajectory.log_prob)
    clipped = jnp.clip(ratio, 1 - eps_low, 1 + eps_high)
    return -jnp.minimum(ratio * batch.advantage, clipped * batch.advantage), {}

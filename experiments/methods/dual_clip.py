"""Dual-clip PPO: the objective of a step with a negative advantage is bounded from below too.

max(min(rho A, clip(rho, 1 - eps, 1 + eps) A), c A) where A < 0, and PPO's min elsewhere; c > 1.
Ye et al. 2020, Mastering complex control in MOBA games with deep reinforcement learning.

    pgjax train ppo CartPole-v1 --loss experiments/methods/dual_clip.py:dual_clip --set c=2,3
"""

import math
from typing import Annotated

import jax.numpy as jnp

from pgjax import Range, losses
from pgjax.hyperparameters import Bound


@losses.by_step
def dual_clip(now, batch, *, clip_eps: Bound = 0.2, c: Annotated[float, Range(1, math.inf)] = 3.0):
    """PPO's clipped surrogate, at least c A where A < 0; [T, B]."""
    ratio = jnp.exp(now.log_prob - batch.trajectory.log_prob)
    clipped = jnp.clip(ratio, 1 - clip_eps, 1 + clip_eps)
    objective = jnp.minimum(ratio * batch.advantage, clipped * batch.advantage)
    bounded = jnp.maximum(objective, c * batch.advantage)
    return -jnp.where(batch.advantage < 0, bounded, objective), {}

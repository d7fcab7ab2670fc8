"""Simple policy optimisation: a parabola in the ratio whose top is at 1 + sign(A) eps, in place of PPO's clip.

rho A - |A| / (2 eps) (rho - 1)^2. Xie et al. 2024, Simple policy optimization.

    pgjax train ppo CartPole-v1 --loss experiments/methods/spo.py:spo --set clip_eps=0.1,0.2
"""

import jax.numpy as jnp

from pgjax import losses
from pgjax.hyperparameters import Positive


@losses.by_step
def spo(now, batch, *, clip_eps: Positive = 0.2):
    """The ratio's surrogate less a quadratic penalty on the ratio; [T, B]."""
    ratio = jnp.exp(now.log_prob - batch.trajectory.log_prob)
    return -(ratio * batch.advantage - jnp.abs(batch.advantage) / (2 * clip_eps) * (ratio - 1) ** 2), {}

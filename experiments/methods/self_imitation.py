"""Self-imitation: what turned out better than the critic thought is imitated, in addition to the policy gradient.

A log pi + coef ((R - V)_+ log pi - beta / 2 (R - V)_+^2), no gradient through the first (R - V)_+; R is the batch's
target, the return where gae_lambda is 1. Oh et al. 2018, Self-imitation learning. They draw the second term from a
prioritised replay of past episodes; here it is of the current batch.

    pgjax train vpg CartPole-v1 --loss experiments/methods/self_imitation.py:self_imitation --set gae_lambda=1 coef=0,1
"""

import jax
import jax.numpy as jnp

from pgjax import losses
from pgjax.hyperparameters import NonNegative


@losses.by_step
def self_imitation(now, batch, *, coef: NonNegative = 1.0, beta: NonNegative = 0.01):
    """REINFORCE plus the imitation of steps whose return is above the value; [T, B]."""
    better = jnp.maximum(batch.target - now.value, 0.0)
    imitation = jax.lax.stop_gradient(better) * now.log_prob - beta / 2 * better**2
    return -(batch.advantage * now.log_prob + coef * imitation), {"imitated": (better > 0).astype(better.dtype)}

"""PPO-RB: outside of the clip the objective falls again, with slope alpha, in place of staying flat.

min(rho A, F(rho) A), F(rho) = -alpha rho + (1 + alpha)(1 - eps) below 1 - eps, -alpha rho + (1 + alpha)(1 + eps) above
1 + eps, and rho between them. Wang et al. 2019, Truly proximal policy optimization.

    pgjax train ppo CartPole-v1 --loss experiments/methods/ppo_rb.py:ppo_rb --set alpha=0.02,0.3
"""

import jax.numpy as jnp

from pgjax import losses
from pgjax.hyperparameters import Bound, NonNegative


@losses.by_step
def ppo_rb(now, batch, *, clip_eps: Bound = 0.2, alpha: NonNegative = 0.3):
    """PPO with a rollback of slope alpha; [T, B]."""
    ratio = jnp.exp(now.log_prob - batch.trajectory.log_prob)
    turned = (1 + alpha) * jnp.clip(ratio, 1 - clip_eps, 1 + clip_eps) - alpha * ratio
    return -jnp.minimum(ratio * batch.advantage, turned * batch.advantage), {}

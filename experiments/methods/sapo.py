"""SAPO: a sigmoid of each token's ratio in place of the clip, steeper where the advantage is negative.

(4 / tau) sigmoid(tau (rho - 1)) A, tau = tau_pos where A > 0, else tau_neg. Gao et al. 2025, Soft adaptive policy
optimization.

    pgjax train grpo copying --loss experiments/methods/sapo.py:sapo --set tau_neg=1,2
"""

import jax
import jax.numpy as jnp

from pgjax import losses
from pgjax.hyperparameters import Positive


@losses.by_step
def sapo(now, batch, *, tau_pos: Positive = 1.0, tau_neg: Positive = 1.05):
    """The softly clipped surrogate, with a temperature for each sign of the advantage; [T, B]."""
    tau = jnp.where(batch.advantage > 0, tau_pos, tau_neg)
    ratio = jnp.exp(now.log_prob - batch.trajectory.log_prob)
    return -4 / tau * jax.nn.sigmoid(tau * (ratio - 1)) * batch.advantage, {}

"""P3O: a sigmoid of the ratio in place of its clip, so that no step's gradient is cut off.

(4 / tau) sigmoid(tau (rho - 1)) A - beta KL(old || new). Chen et al. 2023, The sufficiency of off-policyness and soft
clipping: PPO is still insufficient according to an off-policy measure.

    pgjax train ppo CartPole-v1 --loss experiments/methods/p3o.py:p3o --set beta=0.1,1
"""

import jax
import jax.numpy as jnp

from pgjax import losses
from pgjax.hyperparameters import NonNegative, Positive


@losses.by_step
def p3o(now, batch, *, tau: Positive = 4.0, beta: NonNegative = 0.1):
    """The softly clipped surrogate less the exact KL from the old to the new policy; [T, B]."""
    ratio = jnp.exp(now.log_prob - batch.trajectory.log_prob)
    soft = 4 / tau * jax.nn.sigmoid(tau * (ratio - 1))
    return -(soft * batch.advantage - beta * batch.then.dist.kl(now.dist)), {}

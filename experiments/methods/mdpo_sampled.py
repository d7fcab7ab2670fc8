"""Mirror descent policy optimisation with the KL estimated from the actions taken, for any distribution.

rho A - (rho log rho - rho + 1) / step_size: the mean over actions of the old policy is KL(new || old) / step_size, and
so is its gradient's. Tomar et al. 2020, Mirror descent policy optimization, has the exact KL.

    pgjax train ppo CartPole-v1 --loss experiments/methods/mdpo_sampled.py:mdpo_sampled --set step_size=0.3,1
"""

import jax.numpy as jnp

from pgjax import losses
from pgjax.hyperparameters import Positive


@losses.by_step
def mdpo_sampled(now, batch, *, step_size: Positive = 1.0):
    """The ratio's surrogate less an estimate of the KL from the new to the old policy; [T, B]."""
    log_ratio = now.log_prob - batch.trajectory.log_prob
    ratio = jnp.exp(log_ratio)
    return -(ratio * batch.advantage - (ratio * log_ratio - ratio + 1) / step_size), {}

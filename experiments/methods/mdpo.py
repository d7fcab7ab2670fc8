"""Mirror descent policy optimisation, on policy: several gradient steps on one proximal problem, its KL exact.

rho A - KL(new || old) / step_size. Tomar et al. 2020, Mirror descent policy optimization; they anneal the step size.

    pgjax train ppo CartPole-v1 --loss experiments/methods/mdpo.py:mdpo --set step_size=0.3,1
"""

import jax.numpy as jnp

from pgjax import losses
from pgjax.hyperparameters import Positive


@losses.by_step
def mdpo(now, batch, *, step_size: Positive = 1.0):
    """The ratio's surrogate less the exact KL from the new to the old policy; [T, B]."""
    ratio = jnp.exp(now.log_prob - batch.trajectory.log_prob)
    return -(ratio * batch.advantage - now.dist.kl(batch.then.dist) / step_size), {}

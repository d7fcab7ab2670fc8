"""Mirror descent policy optimisation whose step size falls as the updates go on.

rho A - KL(new || old) / t, exactly, t = step_size max(1 - k / anneal_updates, 0.01) in update k = 0, 1, ... Tomar et
al. 2020, Mirror descent policy optimization, sec. 4.1, whose t falls from 1 to 0.

    pgjax train ppo CartPole-v1 --loss experiments/methods/mdpo_annealed.py:mdpo_annealed --set anneal_updates=100,300
"""

import jax.numpy as jnp

from pgjax import Running
from pgjax.hyperparameters import Positive


def _mdpo(made, now, batch, *, step_size: Positive = 1.0, anneal_updates: Positive = 300.0):
    t = step_size * jnp.maximum(1 - made / anneal_updates, 0.01)
    ratio = jnp.exp(now.log_prob - batch.trajectory.log_prob)
    return made, (-(ratio * batch.advantage - now.dist.kl(batch.then.dist) / t), {"step": t})


mdpo_annealed = Running(lambda *_: jnp.zeros(()), _mdpo, after=lambda made, metrics, **hypers: made + 1)

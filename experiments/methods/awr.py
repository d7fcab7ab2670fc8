"""Advantage-weighted regression: supervised learning of the actions taken, each weighed by its exponentiated advantage.

min(exp(A / beta), largest) log pi. Peng et al. 2019, Advantage-weighted regression: simple and scalable off-policy
reinforcement learning. They draw from a replay buffer; here it is the batch of the last update.

    pgjax train ppo CartPole-v1 --loss experiments/methods/awr.py:awr --set beta=0.3,1
"""

import jax.numpy as jnp

from pgjax import losses
from pgjax.hyperparameters import Positive


@losses.by_step
def awr(now, batch, *, beta: Positive = 1.0, largest: Positive = 20.0):
    """-log pi weighed by exp(A / beta), cut at `largest`; [T, B]."""
    return -jnp.minimum(jnp.exp(batch.advantage / beta), largest) * now.log_prob, {}

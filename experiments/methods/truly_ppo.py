"""Truly PPO: a step beyond the trust region, if it went there by improving, is pulled back by its own KL.

rho A - (alpha KL where KL >= delta and rho A >= A, else delta), KL = KL(old || new) exactly, at the step's state.
Wang et al. 2019, Truly proximal policy optimization.

    pgjax train ppo CartPole-v1 --loss experiments/methods/truly_ppo.py:truly_ppo --set alpha=1,5
"""

import jax.numpy as jnp

from pgjax import losses
from pgjax.hyperparameters import NonNegative


@losses.by_step
def truly_ppo(now, batch, *, delta: NonNegative = 0.03, alpha: NonNegative = 5.0):
    """The ratio's surrogate with a rollback of the KL outside of the trust region; [T, B]."""
    surrogate = jnp.exp(now.log_prob - batch.trajectory.log_prob) * batch.advantage
    kl = batch.then.dist.kl(now.dist)
    beyond = (kl >= delta) & (surrogate >= batch.advantage)
    return -(surrogate - jnp.where(beyond, alpha * kl, delta)), {"kl": kl}

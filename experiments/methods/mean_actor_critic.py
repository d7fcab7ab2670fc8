"""Mean actor-critic: the critic says what every action is worth, so that the gradient needs no sampled action.

sum_a pi(a | s) q(s, a), no gradient through q, whose target is r + gamma sum_a pi(a | s') q(s', a). Allen et al. 2017,
Mean actor critic.

    pgjax train experiments/methods/mean_actor_critic.py:mean_actor_critic CartPole-v1 --set discount=0.97,0.99
"""

import jax.numpy as jnp

from pgjax import Algorithm, Config, advantages, estimators, losses, optimizers
from pgjax.algorithms.roster import Entry


@losses.by_step
def _expected_value(now, batch):
    return -jnp.sum(jnp.exp(now.dist.log_probs()) * batch.then.action_value, axis=-1), {}


mean_actor_critic = Entry(
    Algorithm(
        advantages.td,
        estimators.surrogate(losses.actor_critic(_expected_value, losses.action_value_error)),
        optimizers.adam,
    ),
    Config(num_envs=16, num_steps=8, critic="action_value"),
)

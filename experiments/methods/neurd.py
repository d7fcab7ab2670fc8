"""Neural replicator dynamics: the policy gradient over all actions without its factor pi(a | s).

sum_a logit(s, a) (q(s, a) - sum_b pi(b | s) q(s, b)), no gradient through the bracket; q's target is
r + gamma sum_a pi(a | s') q(s', a). Hennes et al. 2020, Neural replicator dynamics; their bound on logits is left out.

    pgjax train experiments/methods/neurd.py:neurd CartPole-v1 --set discount=0.97,0.99
"""

import jax.numpy as jnp

from pgjax import Algorithm, Config, advantages, estimators, losses, optimizers
from pgjax.algorithms.roster import Entry


@losses.by_step
def _replicator(now, batch):
    q, pi = batch.then.action_value, jnp.exp(batch.then.dist.log_probs())
    return -jnp.sum(now.dist.logits * (q - jnp.sum(pi * q, axis=-1, keepdims=True)), axis=-1), {}


neurd = Entry(
    Algorithm(
        advantages.td,
        estimators.surrogate(losses.actor_critic(_replicator, losses.action_value_error)),
        optimizers.adam,
    ),
    Config(num_envs=16, num_steps=8, critic="action_value"),
)

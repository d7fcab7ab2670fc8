"""Symlog regression: the critic predicts the logarithm of the return, whatever the size of the rewards.

(f(s) - symlog(target))^2 / 2, symlog(x) = sign(x) log(1 + |x|); the value is V = symexp(f), symexp the inverse. Hafner
et al. 2023, Mastering diverse domains through world models (DreamerV3), on PPO.

    pgjax train experiments/methods/symlog.py:symlog Pendulum-v1 --set value_coef=0.5,1
"""

import jax.numpy as jnp

from pgjax import Algorithm, Config, advantages, estimators, losses, optimizers, policies
from pgjax.algorithms.roster import Entry


@losses.by_step
def _error(now, batch):
    symlog_target = jnp.sign(batch.target) * jnp.log1p(jnp.abs(batch.target))
    return 0.5 * (now.extra - symlog_target) ** 2, {}


def _policy(env, config):
    policy = policies.make(env, config)

    def evaluate(params, trajectory):
        now = policy.evaluate(params, trajectory)
        value, next_value = (jnp.sign(x) * jnp.expm1(jnp.abs(x)) for x in (now.value, now.next_value))
        return now._replace(value=value, next_value=next_value, extra=now.value)

    stepwise = evaluate if policy.by_observation else None
    return policy._replace(evaluate=evaluate, stepwise=stepwise)


symlog = Entry(
    Algorithm(
        advantages.gae,
        estimators.surrogate(losses.actor_critic(losses.ppo_clip, _error)),
        optimizers.adam,
    ),
    Config(num_envs=8, num_steps=64, num_epochs=4, num_minibatches=4),
    policy=_policy,
)

"""PopArt: the critic learns targets of mean 0 and spread 1, and its last layer is rescaled so that values stay.

mu and sigma^2 + mu^2 move by `beta` towards the mean of the targets and of their squares; then W = (sigma / sigma') W
and b = (sigma b + mu - mu') / sigma', so that V = sigma (W x + b) + mu is what it was. The critic's loss is
((V - target) / sigma)^2 / 2. Van Hasselt et al. 2016, Learning values across many orders of magnitude, algorithm 1;
Hessel et al. 2018, Multi-task deep reinforcement learning with PopArt.

    pgjax train experiments/methods/popart.py:popart Pendulum-v1 --set beta=0.03,0.1
"""

import jax
import jax.numpy as jnp
from flax import nnx

from pgjax import Algorithm, Config, advantages, estimators, losses, optimizers, policies
from pgjax.algorithms.roster import Entry
from pgjax.algorithms.updates import descent
from pgjax.hyperparameters import Probability, bind
from pgjax.numerics import masked
from pgjax.policies.networks import MLP


class _Network(MLP):
    def __init__(self, env, config, *, rngs):
        super().__init__(env, config, rngs=rngs)
        self.mu, self.sigma = nnx.Param(jnp.zeros(())), nnx.Param(jnp.ones(()))

    def __call__(self, obs):
        mu, sigma = jax.lax.stop_gradient((self.mu[...], self.sigma[...]))
        normal = self.critic(obs)
        return self.actor(obs), sigma * normal + mu, jnp.full_like(normal, sigma)


@losses.by_step
def _normal_error(now, batch):
    return 0.5 * ((now.value - batch.target) / now.extra) ** 2, {"sigma": now.extra}


def _popart(algorithm, config, by_column, *, beta: Probability = 0.1):
    inner = descent(algorithm, config, by_column)

    def apply(key, policy, params, state, batch, hypers):
        mu, sigma, head = params["mu"], params["sigma"], params["critic_head"]
        mean = mu + beta * (masked.mean(batch.target, batch.trajectory.mask) - mu)
        square = masked.mean((batch.target - mean) ** 2, batch.trajectory.mask)
        spread = jnp.sqrt(jnp.maximum((1 - beta) * (sigma**2 + (mu - mean) ** 2) + beta * square, 1e-8))
        moved = {"kernel": sigma / spread * head["kernel"], "bias": (sigma * head["bias"] + mu - mean) / spread}
        params = {**params, "mu": mean, "sigma": spread, "critic_head": moved}
        return inner.apply(key, policy, params, state, batch, hypers)

    return inner._replace(apply=apply)


def _policy(env, config):
    return policies.from_nnx(lambda rngs: _Network(env, config, rngs=rngs))


popart = Entry(
    Algorithm(
        advantages.gae,
        bind(estimators.surrogate(losses.actor_critic(losses.ppo_clip, _normal_error)), normalize_advantage=True),
        bind(optimizers.adam, learning_rate=1e-3),
        _popart,
    ),
    Config(num_envs=8, num_steps=64, num_epochs=4, num_minibatches=4),
    policy=_policy,
)

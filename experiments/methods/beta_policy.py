"""Beta policy: over a finite Box, a Beta distribution for each component, which has no mass outside of it.

a = low + (high - low) u, u ~ Beta(alpha, beta); alpha and beta are 1 + softplus of the network, so the density has one
top. Chou et al. 2017, Improving stochastic policy gradients in continuous control with deep reinforcement learning
using the Beta distribution.

    pgjax train ppo Pendulum-v1 --policy experiments/methods/beta_policy.py:beta_policy --set clip_eps=0.1,0.2
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.scipy.special import betaln, digamma

from pgjax import policies
from pgjax.policies.networks import MLP


class _Beta(NamedTuple):
    alpha: jax.Array  # each [..., D]
    beta: jax.Array
    low: jax.Array
    high: jax.Array

    def sample(self, key):
        return self.low + (self.high - self.low) * jax.random.beta(key, self.alpha, self.beta)

    def log_prob(self, action):
        u = jnp.clip((action - self.low) / (self.high - self.low), 1e-6, 1 - 1e-6)  # rounding reaches the bounds
        log_density = (self.alpha - 1) * jnp.log(u) + (self.beta - 1) * jnp.log1p(-u) - betaln(self.alpha, self.beta)
        return jnp.sum(log_density - jnp.log(self.high - self.low), axis=-1)

    def entropy(self):
        a, b = self.alpha, self.beta
        own = betaln(a, b) - (a - 1) * digamma(a) - (b - 1) * digamma(b) + (a + b - 2) * digamma(a + b)
        return jnp.sum(own + jnp.log(self.high - self.low), axis=-1)

    def mode(self):
        return self.low + (self.high - self.low) * (self.alpha - 1) / (self.alpha + self.beta - 2)

    def kl(self, other):
        a, b, c, d = self.alpha, self.beta, other.alpha, other.beta
        moved = (a - c) * digamma(a) + (b - d) * digamma(b) + (c - a + d - b) * digamma(a + b)
        return jnp.sum(betaln(c, d) - betaln(a, b) + moved, axis=-1)


class _Network(MLP):
    actor_head: Any

    def __init__(self, env, config, *, rngs):
        super().__init__(env, config, rngs=rngs)
        self.box = env.action_space
        self.actor_head = nnx.Linear(config.hidden[-1], 2 * self.box.shape[0], rngs=rngs)

    def actor(self, obs):
        shape = 1 + jax.nn.softplus(self.through(self.actor_torso, self.actor_head, self.features(obs)))
        alpha, beta = jnp.split(shape, 2, axis=-1)
        return _Beta(alpha, beta, *(jnp.broadcast_to(x, alpha.shape) for x in (self.box.low, self.box.high)))


def beta_policy(env, config):
    """A multi-layer perceptron that acts by Beta distributions over the Box of actions."""
    if not np.isfinite([getattr(env.action_space, bound, np.inf) for bound in ("low", "high")]).all():
        raise ValueError(f"beta_policy needs a finite Box of actions, got {env.action_space!r}")
    return policies.from_nnx(lambda rngs: _Network(env, config, rngs=rngs), apart=True)

"""Mixture of Gaussians: a policy over a Box that may have several tops.

p(a | s) = sum_k w_k(s) N(a; m_k(s), exp(2 l_k(s))), K = 3 diagonal components. Bishop 1994, Mixture density networks.
Entropy and KL have no closed form: these are upper bounds, H(w) + sum_k w_k H_k (Huber et al. 2008) and
KL(w || w') + sum_k w_k KL_k (the chain rule), exact where the components lie apart.

    pgjax train ppo Pendulum-v1 --policy experiments/methods/mixture_policy.py:mixture_policy --set clip_eps=0.1,0.2
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from pgjax import policies
from pgjax.policies.distributions import Categorical, DiagGaussian, gaussian, units
from pgjax.policies.networks import MLP


class _Mixture(NamedTuple):
    which: Categorical  # [..., K]
    each: DiagGaussian  # [..., K, D]

    def sample(self, key):
        key_which, key_each = jax.random.split(key)
        return _picked(self.each.sample(key_each), self.which.sample(key_which))

    def log_prob(self, action):
        return jax.nn.logsumexp(self.which.log_probs() + self.each.log_prob(action[..., None, :]), axis=-1)

    def entropy(self):
        return self.which.entropy() + jnp.sum(jnp.exp(self.which.log_probs()) * self.each.entropy(), axis=-1)

    def mode(self):
        return _picked(self.each.mean, self.which.mode())

    def kl(self, other):
        share = jnp.exp(self.which.log_probs())
        return self.which.kl(other.which) + jnp.sum(share * self.each.kl(other.each), axis=-1)


def _picked(x, index):
    return jnp.take_along_axis(x, index[..., None, None], axis=-2)[..., 0, :]


class _Network(MLP):
    actor_head: Any

    def __init__(self, env, config, *, rngs):
        super().__init__(env, config, rngs=rngs)
        self.units, self.width = units(env.action_space), env.action_space.shape[0]
        self.actor_head = nnx.Linear(config.hidden[-1], 3 * (1 + 2 * self.width), rngs=rngs)

    def actor(self, obs):
        output = self.through(self.actor_torso, self.actor_head, self.features(obs))
        output = output.reshape(*output.shape[:-1], 3, 1 + 2 * self.width)
        mean, log_std = jnp.split(output[..., 1:], 2, axis=-1)
        return _Mixture(Categorical(output[..., 0]), gaussian(mean, log_std, self.units))


def mixture_policy(env, config):
    """A multi-layer perceptron that acts by a mixture of three Gaussians."""
    if not hasattr(env.action_space, "low"):
        raise ValueError(f"mixture_policy needs a Box of actions, got {env.action_space!r}")
    return policies.from_nnx(lambda rngs: _Network(env, config, rngs=rngs), apart=True)

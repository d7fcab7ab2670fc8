"""Action distributions as pytrees: parameters in, samples and log-probabilities out.

Leading axes are batch axes. A distribution has `sample(key)`, `log_prob(action)`, `entropy()`,
`mode()` and `kl(other)`, the divergence KL(self || other); entropies are in nats.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgjax.types import Array


class Categorical(NamedTuple):
    """Over A actions, from unnormalised log-probabilities."""

    logits: Array  # [..., A]

    def log_probs(self) -> Array:
        """Normalised log-probabilities, [..., A]."""
        return jax.nn.log_softmax(self.logits)

    def sample(self, key: Array) -> Array:
        """Action index, [...] int32, by inversion: one uniform number for each draw.

        An action of probability 0 is never drawn: u < 1, so u times the total stays below the total.
        """
        p = jax.nn.softmax(self.logits)
        # A parallel prefix sum may round equal neighbours apart: an interval ends only where p > 0.
        ends = jnp.where(p > 0, jnp.cumsum(p, axis=-1), 0.0)
        u = jax.random.uniform(key, p.shape[:-1] + (1,), p.dtype)
        beyond = ends > u * jnp.max(ends, axis=-1, keepdims=True)
        index = jax.lax.broadcasted_iota(jnp.int32, p.shape, p.ndim - 1)
        return jnp.min(jnp.where(beyond, index, p.shape[-1] - 1), axis=-1)

    def log_prob(self, action: Array) -> Array:
        """[...]"""
        # A one-hot sum: gathers, and the scatters of their gradients, are slow on every backend.
        chosen = jax.nn.one_hot(action, self.logits.shape[-1], dtype=bool)
        return jnp.sum(jnp.where(chosen, self.log_probs(), 0.0), axis=-1)

    def entropy(self) -> Array:
        """[...]"""
        log_p = self.log_probs()
        p = jnp.exp(log_p)
        return -jnp.sum(p * jnp.where(p > 0, log_p, 0.0), axis=-1)

    def mode(self) -> Array:
        """The likeliest action, [...] int32; the first of equals."""
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    def kl(self, other: "Categorical") -> Array:
        """[...]; infinite where `other` rules out what self may do."""
        log_p, log_q = self.log_probs(), other.log_probs()
        p = jnp.exp(log_p)
        return jnp.sum(p * jnp.where(p > 0, log_p - log_q, 0.0), axis=-1)


class DiagGaussian(NamedTuple):
    """Over real vectors of D components, independent of each other."""

    mean: Array  # [..., D]
    log_std: Array  # [..., D]

    def sample(self, key: Array) -> Array:
        """[..., D]"""
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(self.log_std) * noise

    def log_prob(self, action: Array) -> Array:
        """[...]"""
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return jnp.sum(-0.5 * z**2 - self.log_std - 0.5 * math.log(2 * math.pi), axis=-1)

    def entropy(self) -> Array:
        """[...]; differential, so it may be negative."""
        return jnp.sum(self.log_std + 0.5 * math.log(2 * math.pi * math.e), axis=-1)

    def mode(self) -> Array:
        """[..., D]"""
        return self.mean

    def kl(self, other: "DiagGaussian") -> Array:
        """[...]"""
        ratio = jnp.exp(2 * (self.log_std - other.log_std))
        z = (self.mean - other.mean) * jnp.exp(-other.log_std)
        return jnp.sum(0.5 * (ratio + z**2 - 1) + other.log_std - self.log_std, axis=-1)

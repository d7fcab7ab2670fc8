"""Action distributions as pytrees: parameters in, samples and log-probabilities out.

Leading axes are batch axes. A distribution has `sample(key)`, `log_prob(action)`, `entropy()`,
`mode()` and `kl(other)`, the divergence KL(self || other); entropies are in nats.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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


# Of E[f(z)], z standard normal. For what is smooth and wide, equal steps beat Gauss-Hermite's nodes.
_NODES = np.linspace(-7, 7, 64)
_WEIGHTS = np.exp(-0.5 * _NODES**2) / np.sum(np.exp(-0.5 * _NODES**2))


class SquashedGaussian(NamedTuple):
    """A DiagGaussian u pressed into a box: a = (low + high) / 2 + (high - low) / 2 tanh(u).

    Haarnoja et al. 2018, app. C: log p(a) = log N(u) - sum log da/du.
    """

    mean: Array  # [..., D] of u
    log_std: Array  # [..., D] of u
    low: Array  # [..., D]
    high: Array  # [..., D]

    def sample(self, key: Array) -> Array:
        """[..., D]"""
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key: Array) -> tuple[Array, Array]:
        """An action [..., D] and its log-probability [...], which knows u and so is exact where a reaches a bound."""
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        u = self.mean + jnp.exp(self.log_std) * noise
        normal = -0.5 * noise**2 - self.log_std - 0.5 * math.log(2 * math.pi)
        return self._squash(u), jnp.sum(normal - self._log_slope(u), axis=-1)

    def log_prob(self, action: Array) -> Array:
        """[...]; u is kept within atanh(1 - 1e-6) = 7.25, beyond which the action has no digits to tell it by."""
        x = (action - 0.5 * (self.low + self.high)) / (0.5 * (self.high - self.low))
        u = jnp.arctanh(jnp.clip(x, -1 + 1e-6, 1 - 1e-6))
        return self._gaussian().log_prob(u) - jnp.sum(self._log_slope(u), axis=-1)

    def entropy(self) -> Array:
        """[...]; there is no closed form: H(u) + E[log da/du] by quadrature, within 1e-3 for log_std <= 2."""
        nodes, weights = (
            jnp.reshape(jnp.asarray(x, self.mean.dtype), (-1, *[1] * self.mean.ndim)) for x in (_NODES, _WEIGHTS)
        )
        u = self.mean[None] + jnp.exp(self.log_std)[None] * nodes
        slope = jax.vmap(self._log_slope)(u)
        return self._gaussian().entropy() + jnp.sum(weights * slope, axis=(0, -1))

    def mode(self) -> Array:
        """[..., D]: the median, where u is likeliest. The density of a may be higher elsewhere, even at the bounds."""
        return self._squash(self.mean)

    def kl(self, other: "SquashedGaussian") -> Array:
        """[...], of the same bounds: that of the Gaussians, since a bijection changes no divergence."""
        return self._gaussian().kl(other._gaussian())

    def _gaussian(self) -> DiagGaussian:
        return DiagGaussian(self.mean, self.log_std)

    def _squash(self, u: Array) -> Array:
        return 0.5 * (self.low + self.high) + 0.5 * (self.high - self.low) * jnp.tanh(u)

    def _log_slope(self, u: Array) -> Array:
        """log da/du [..., D]: 1 - tanh(u)^2 would be 0 from |u| = 9 on."""
        return jnp.log(0.5 * (self.high - self.low)) + 2 * (math.log(2) - u - jax.nn.softplus(-2 * u))


class Exploring(NamedTuple):
    """With probability `share` a uniform action, else one of `dist`; for acting only."""

    dist: Any  # a Categorical, or over a box
    low: Array | None  # [..., D] of a Box of actions; None for a Categorical
    high: Array | None
    share: Array  # []

    def sample(self, key: Array) -> Array:
        """[...] or [..., D]"""
        if self.low is None:
            return self._mixed().sample(key)
        key_which, key_uniform, key_dist = jax.random.split(key, 3)
        uniform = jax.random.uniform(key_uniform, self.low.shape, self.low.dtype, self.low, self.high)
        which = jax.random.uniform(key_which, (*self.low.shape[:-1], 1)) < self.share
        return jnp.where(which, uniform, self.dist.sample(key_dist))

    def log_prob(self, action: Array) -> Array:
        """[...]"""
        if self.low is None:
            return self._mixed().log_prob(action)
        uniform = -jnp.sum(jnp.log(self.high - self.low), axis=-1)
        return jnp.logaddexp(jnp.log(self.share) + uniform, jnp.log1p(-self.share) + self.dist.log_prob(action))

    def mode(self) -> Array:
        """[...] or [..., D]: that of `dist`."""
        return self.dist.mode()

    def _mixed(self) -> Categorical:
        uniform = self.share / self.dist.logits.shape[-1]
        return Categorical(jnp.log((1 - self.share) * jnp.exp(self.dist.log_probs()) + uniform))

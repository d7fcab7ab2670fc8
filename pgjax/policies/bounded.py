"""`Beta`, a distribution over a finite Box that has no mass outside, and `Mixture`, of Gaussians."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import betaln, digamma

from pgjax.policies.distributions import Categorical, DiagGaussian
from pgjax.types import Array


class Beta(NamedTuple):
    """a = low + (high - low) u, the components of u independent of each other and Beta(alpha, beta).

    Chou et al. 2017, Improving stochastic policy gradients in continuous control with deep reinforcement learning using
    the Beta distribution; there alpha and beta are 1 or more, so that the density has one top.
    """

    alpha: Array  # [..., D]
    beta: Array  # [..., D]
    low: Array  # [..., D]
    high: Array  # [..., D]

    def sample(self, key: Array) -> Array:
        """[..., D]"""
        return self.low + (self.high - self.low) * jax.random.beta(key, self.alpha, self.beta)

    def log_prob(self, action: Array) -> Array:
        """[...]; next to a bound, that of the number a millionth of the width away from it."""
        width = self.high - self.low
        u = jnp.clip((action - self.low) / width, 1e-6, 1 - 1e-6)  # rounding reaches the bounds, where it may be -inf
        log_density = (self.alpha - 1) * jnp.log(u) + (self.beta - 1) * jnp.log1p(-u) - betaln(self.alpha, self.beta)
        return jnp.sum(log_density - jnp.log(width), axis=-1)

    def entropy(self) -> Array:
        """[...]; differential, so it may be negative."""
        a, b = self.alpha, self.beta
        own = betaln(a, b) - (a - 1) * digamma(a) - (b - 1) * digamma(b) + (a + b - 2) * digamma(a + b)
        return jnp.sum(own + jnp.log(self.high - self.low), axis=-1)

    def mode(self) -> Array:
        """[..., D]; the middle where the density is flat."""
        a, b = self.alpha - 1, self.beta - 1
        flat = a + b <= 0
        return self.low + (self.high - self.low) * jnp.where(flat, 0.5, a / jnp.where(flat, 1.0, a + b))

    def kl(self, other: "Beta") -> Array:
        """[...], for the same Box."""
        a, b, c, d = self.alpha, self.beta, other.alpha, other.beta
        moved = (a - c) * digamma(a) + (b - d) * digamma(b) + (c - a + d - b) * digamma(a + b)
        return jnp.sum(betaln(c, d) - betaln(a, b) + moved, axis=-1)


class Mixture(NamedTuple):
    """p(a) = sum_k w_k N(a; m_k, exp(2 l_k)), of K DiagGaussians (Bishop 1994, Mixture density networks).

    Entropy and KL have no closed form: these are upper bounds, exact where the components lie apart,
    H(w) + sum_k w_k H_k (Huber et al. 2008, eq. 8) and KL(w || w') + sum_k w_k KL_k (the chain rule).
    """

    which: Categorical  # [..., K]
    each: DiagGaussian  # [..., K, D]

    def sample(self, key: Array) -> Array:
        """[..., D]"""
        key_which, key_each = jax.random.split(key)
        return _picked(self.each.sample(key_each), self.which.sample(key_which))

    def log_prob(self, action: Array) -> Array:
        """[...]"""
        return jax.nn.logsumexp(self.which.log_probs() + self.each.log_prob(action[..., None, :]), axis=-1)

    def entropy(self) -> Array:
        """[...]; an upper bound."""
        return self.which.entropy() + jnp.sum(jnp.exp(self.which.log_probs()) * self.each.entropy(), axis=-1)

    def mode(self) -> Array:
        """[..., D]: the mean of the heaviest component."""
        return _picked(self.each.mean, self.which.mode())

    def kl(self, other: "Mixture") -> Array:
        """[...]; an upper bound."""
        share = jnp.exp(self.which.log_probs())
        return self.which.kl(other.which) + jnp.sum(share * self.each.kl(other.each), axis=-1)


def _picked(x: Array, index: Array) -> Array:
    """x[..., k, :] at k = index [...], of x [..., K, D]."""
    chosen = jax.nn.one_hot(index, x.shape[-2], dtype=bool)[..., None]
    return jnp.sum(jnp.where(chosen, x, 0.0), axis=-2)

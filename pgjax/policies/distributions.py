"""Action distributions as pytrees: samples, log-probabilities, entropies and divergences of their parameters.

Leading axes are batch axes, and every field has them. A distribution has `sample(key)`, `log_prob(action)`,
`entropy()`, `mode()` and `kl(other)`, the divergence KL(self || other); entropies are in nats.
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
        """[...]; infinite where `other` rules out an action that self may take."""
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


def check_fields(dist: Any, batch: tuple[int, ...], name: str) -> None:
    """ValueError where an array of a distribution lacks the batch axes, along which batches are cut."""
    for path, x in jax.tree_util.tree_flatten_with_path(dist)[0]:
        if jnp.shape(x)[: len(batch)] != batch:
            raise ValueError(
                f"{name}: {type(dist).__name__}{jax.tree_util.keystr(path)} has shape {jnp.shape(x)}, expected the "
                f"batch axes {batch} first; use jnp.broadcast_to on what steps share"
            )


Units = tuple[tuple[float, ...], tuple[float, ...]]  # middle, half


def units(space: Any) -> Units:
    """(middle, half), D numbers each: the units of a Box of actions with one axis.

    They are (low + high) / 2 and (high - low) / 2 where a component has both bounds. Where one bound is infinite (or
    the largest float32), they are the number of the Box nearest to 0, and 1.

    Raises:
      ValueError: where the Box has more axes than one, or a lower bound above the upper.
    """
    if len(space.shape) != 1:
        raise ValueError(f"a Box of actions must have one axis, got shape {space.shape}")
    low, high = (np.broadcast_to(np.asarray(x, np.float64), space.shape) for x in (space.low, space.high))
    if not np.all(low <= high):
        raise ValueError(f"a Box of actions must have low <= high, got {space!r}")
    most = float(np.finfo(np.float32).max)
    bounded = (np.maximum(np.abs(low), np.abs(high)) < most) & (low < high)
    low, high = np.clip(low, -most, most), np.clip(high, -most, most)
    middle = np.where(bounded, 0.5 * low + 0.5 * high, np.clip(0.0, low, high))
    return tuple(middle.tolist()), tuple(np.where(bounded, 0.5 * high - 0.5 * low, 1.0).tolist())


def gaussian(mean: Array, log_std: Array, units: Units) -> DiagGaussian:
    """The DiagGaussian of a = middle + half u, u of this mean and log_std [..., D], in the `units` of a Box.

    At mean 0 and log_std 0 it covers a finite Box, and a linear change of the Box's units changes nothing that is
    learned: log-probabilities and entropies shift by a constant; ratios, divergences and gradients stay.
    """
    log_std = jnp.broadcast_to(log_std, mean.shape)
    if not any(units[0]) and set(units[1]) <= {1.0}:
        return DiagGaussian(mean, log_std)
    each = (jnp.broadcast_to(jnp.asarray(x, mean.dtype), mean.shape) for x in (*units, np.log(units[1])))
    middle, half, log_half = each
    return DiagGaussian(middle + half * mean, log_std + log_half)


# Nodes of sums over a normal's bell. For smooth and wide functions, equal steps beat Gauss-Hermite's nodes.
_NODES = np.linspace(-7, 7, 64)


class SquashedGaussian(NamedTuple):
    """A DiagGaussian u pressed into a box: a = (low + high) / 2 + (high - low) / 2 tanh(u).

    Haarnoja et al. 2018, app. C: log p(a) = log N(u) - sum log da/du.

    Next to a bound the numbers a are too coarse to recover u. The last cells, some 64 roundings wide (from |u| = 6.6
    on for [-1, 1] in float32), are each treated as a whole: there log_prob(a) is the log of the mean density,
    P(cell) / its volume. So log_prob is the likelihood of the rounded action: it integrates to 1, ratios are exact, and
    E[f(a) d log_prob(a)] = d E[f(a)] however far out the mean is, in a Box of many more numbers than 128.
    `sample_and_log_prob`, `entropy` and `kl` know u and are exact for the Gaussian.
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
        """[...]; within a last cell the log of its mean density, see above."""
        half = 0.5 * (self.high - self.low)
        cell_low, cell_high = _cell(-self.low, half), _cell(self.high, half)
        from_low, from_high = action - self.low, self.high - action
        below, above = from_low < cell_low, from_high < cell_high
        within = ~(below | above)
        # The branch that isn't chosen must be finite too: its gradient is multiplied by 0, which would give NaN.
        x = jnp.where(within, from_low - from_high, 0.0) / (2 * half)
        middle = jnp.arctanh(jnp.clip(x, -0.5, 0.5))
        outer = 0.5 * (jnp.log(jnp.where(within, from_low, 1.0)) - jnp.log(jnp.where(within, from_high, 1.0)))
        u = jnp.where(jnp.abs(x) < 0.5, middle, outer)
        z = (u - self.mean) * jnp.exp(-self.log_std)
        density = -0.5 * z**2 - self.log_std - 0.5 * math.log(2 * math.pi) - self._log_slope(u)
        sign, cell = jnp.where(below, -1.0, 1.0), jnp.where(below, cell_low, cell_high)
        edge = 0.5 * (jnp.log(2 * half - cell) - jnp.log(cell))
        outward = jnp.where(within, 0.0, (sign * self.mean - edge) * jnp.exp(-self.log_std))
        mass = jax.scipy.special.log_ndtr(outward) - jnp.log(cell)
        return jnp.sum(jnp.where(within, density, mass), axis=-1)

    def entropy(self) -> Array:
        """[...]; H(u) + E[log da/du], which falls as the mean nears a bound. There is no closed form."""
        half = 0.5 * (self.high - self.low)
        slope = jnp.log(half) - 2 * _mean_log_cosh(self.mean, self.log_std)
        return self._gaussian().entropy() + jnp.sum(slope, axis=-1)

    def mode(self) -> Array:
        """[..., D]: the median, where u is likeliest. The density of a may be higher elsewhere, even at the bounds."""
        return self._squash(self.mean)

    def kl(self, other: "SquashedGaussian") -> Array:
        """[...]; for equal bounds the divergence of the Gaussians, since a bijection changes no divergence."""
        return self._gaussian().kl(other._gaussian())

    def _gaussian(self) -> DiagGaussian:
        return DiagGaussian(self.mean, self.log_std)

    def _squash(self, u: Array) -> Array:
        # Near a bound the distance to it must keep its digits; tanh is 1 from |u| = 8 on.
        middle = 0.5 * (self.low + self.high) + 0.5 * (self.high - self.low) * jnp.tanh(u)
        width = self.high - self.low
        low, high = self.low + width * jax.nn.sigmoid(2 * u), self.high - width * jax.nn.sigmoid(-2 * u)
        return jnp.where(u > 2, high, jnp.where(u < -2, low, middle))

    def _log_slope(self, u: Array) -> Array:
        """log da/du [..., D]: 1 - tanh(u)^2 would be 0 from |u| = 9 on."""
        return jnp.log(0.5 * (self.high - self.low)) + 2 * (math.log(2) - u - jax.nn.softplus(-2 * u))


def _cell(bound: Array, half: Array) -> Array:
    """The width of the last cell at the upper bound of a box: between the numbers 64 and 65 roundings below it."""
    bound = jax.lax.stop_gradient(bound)  # the next number has no derivative
    rounding = bound - jnp.nextafter(bound, jnp.full_like(bound, -jnp.inf))
    return jnp.minimum(64.5 * jnp.maximum(rounding, jnp.finfo(bound.dtype).tiny), 0.5 * half)


def _mean_log_cosh(mean: Array, log_std: Array) -> Array:
    """E[log cosh u] [..., D], u normal; within 1e-6 of its size in float32.

    log cosh u + log 2 is close to |u|, and closer to A(u) = E|u + s n| with n standard normal, which is as smooth. The
    mean of A is known: it is A with the deviation sqrt(s^2 + std^2). The rest, a bump about 2 wide, is summed over the
    product of its own bell and the normal's.
    """
    s, bump, std = 0.8, 2.0, jnp.exp(log_std)
    nodes = jnp.asarray(_NODES.reshape(-1, *[1] * mean.ndim), mean.dtype)

    def near(u, s):
        z = u / s
        return u * jax.scipy.special.erf(z / math.sqrt(2)) + s * math.sqrt(2 / math.pi) * jnp.exp(-0.5 * z**2)

    share = bump / jnp.sqrt(bump**2 + std**2)  # the product's deviation, in those of the normal
    z = share[None] * nodes - (mean * std / (bump**2 + std**2))[None]
    u = mean[None] + std[None] * z
    rest = jnp.logaddexp(u, -u) - near(u, s)  # log 2 is in both
    weight = share[None] * jnp.exp(-0.5 * z**2) * float(_NODES[1] - _NODES[0]) / math.sqrt(2 * math.pi)
    return near(mean, jnp.sqrt(s**2 + std**2)) - math.log(2) + jnp.sum(weight * rest, axis=0)

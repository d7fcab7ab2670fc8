"""`SquashedGaussian`: a Gaussian pressed into a box, whose log-probabilities hold next to the bounds too."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.policies.distributions import DiagGaussian
from pgjax.types import Array

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

"""Values as classes: a critic's logits over bins, the value that they stand for, and their cross-entropy to a target.

The bins b_k = symexp(x_k), symexp(x) = sign(x) (exp|x| - 1), lie at equal steps of x from -10 to 10, so they reach from
-22,025 to 22,025 and are close together around 0 (Hafner et al. 2023, Mastering diverse domains through world models,
eq. 9 and 10). The value is sum_k softmax(logits)_k b_k.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.types import Array

COUNT = 101
SPREAD = 0.75  # of HL-Gauss, in widths of a bin (Farebrother et al. 2024, sec. 3)
_X = np.linspace(-10.0, 10.0, COUNT)
BINS = np.sign(_X) * np.expm1(np.abs(_X))


class TwoHot(NamedTuple):
    """A critic that is taught the two bins around a target, so weighted that their mean is the target."""

    logits: Array  # [..., K]


class HLGauss(NamedTuple):
    """A critic that is taught a Gaussian around a target, in the scale of x: Farebrother et al. 2024, eq. 3.3."""

    logits: Array  # [..., K]


class Ensemble(NamedTuple):
    """Several critics of different first weights, each taught alone; the value is their mean."""

    values: Array  # [..., K]


def expected(logits: Array) -> Array:
    """The value [...] of logits [..., K]."""
    return jnp.sum(jax.nn.softmax(logits) * _row(BINS, logits), axis=-1)


def classes(extra: TwoHot | HLGauss, target: Array) -> Array:
    """The probabilities [..., K] that a target [...] stands for; beyond the bins it counts as the last."""
    target = jnp.clip(target, BINS[0], BINS[-1])[..., None]
    bins = _row(BINS, target)
    if isinstance(extra, TwoHot):
        right = jnp.clip(jnp.sum(bins <= target, axis=-1, keepdims=True), 1, COUNT - 1)
        low, high = bins.reshape(-1)[right - 1], bins.reshape(-1)[right]
        share = (target - low) / (high - low)
        at = jnp.arange(COUNT).reshape(bins.shape)
        return jnp.where(at == right - 1, 1 - share, 0.0) + jnp.where(at == right, share, 0.0)
    width = float(_X[1] - _X[0])
    edges = _row(np.append(_X - width / 2, _X[-1] + width / 2), target)
    x = jnp.sign(target) * jnp.log1p(jnp.abs(target))
    below = jax.scipy.special.ndtr((edges - x) / (SPREAD * width))
    return jnp.diff(below, axis=-1) / (below[..., -1:] - below[..., :1])


def _row(x: np.ndarray, like: Array) -> Array:
    """x [K] with the type of `like` [..., 1 or K], and as many axes."""
    return jnp.asarray(x, like.dtype).reshape((1,) * (like.ndim - 1) + (-1,))


def cross_entropy(extra: TwoHot | HLGauss, target: Array) -> Array:
    """-sum_k p_k(target) log softmax(logits)_k, [...]"""
    return -jnp.sum(classes(extra, target) * jax.nn.log_softmax(extra.logits), axis=-1)

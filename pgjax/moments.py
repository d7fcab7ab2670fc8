"""Means and deviations: of one batch, and running ones of all that a learner has seen, as a part of its state.

Numbers that differ by no more than rounding are equal: their deviation says nothing, and nothing is divided by it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgjax.types import Array, PyTree


def rounding(magnitude: Array, terms: int | Array = 1) -> Array:
    """The range that rounding alone may give to equal numbers: (8 + sqrt(terms)) eps magnitude.

    Rounding errors of a sum grow as the square root of its terms does (Higham & Mary 2019, sec. 3); those of a sum in
    pairs stay below it, with whatever rounding the terms bring.

    Args:
      magnitude: [...] of the numbers, or of the largest that each was made of.
      terms: how many numbers each was summed from, or a batch of them was.
    """
    return jnp.finfo(jnp.result_type(magnitude)).eps * magnitude * (8 + jnp.sqrt(1.0 * terms))


def standard(x: Array, mask: Array, magnitude: Array | None = None, terms: int | None = None) -> tuple[Array, Array]:
    """(x - mean, standard deviation) over the N entries where mask is 1; both 0 where these are equal.

    They are equal where their range is within `rounding` of the largest. x - mean is 0 elsewhere.

    Args:
      magnitude: of the numbers that x is the difference of, shaped like it, where these are larger than x.
      terms: how many numbers each was summed from; N, or 4,096 if that is less, where it isn't known.
    """
    counts = mask > 0
    total = jnp.maximum(jnp.sum(mask), 1.0)
    x = jnp.where(counts, x, 0.0)
    largest = jnp.max(jnp.abs(x))
    low, high = (f(x, where=counts, initial=end) for f, end in ((jnp.min, jnp.inf), (jnp.max, -jnp.inf)))
    spread = high - low
    if magnitude is not None:
        largest = jnp.maximum(largest, jnp.max(jnp.where(counts, magnitude, 0.0)))
    # Said so that NaN and inf go on.
    equal = (spread <= rounding(largest, jnp.minimum(total, 4096.0) if terms is None else terms)) & (spread < jnp.inf)
    # Far from 0 a sum would hold little of the spread, and far from 1 squares would leave the numbers' range.
    shift = jnp.where(equal | (16 * spread < largest), low, 0.0)
    unit = jnp.where(equal | ((spread > 1e-15) & (spread < 1e15)), 1.0, spread)
    x = jnp.where(counts, (x - shift) / unit, 0.0)
    centred = jnp.where(counts & ~equal, x - jnp.sum(x * mask) / total, 0.0)
    return unit * centred, unit * jnp.sqrt(jnp.sum(centred**2 * mask) / total)


class Moments(NamedTuple):
    """Count, mean and sum of squared deviations of a stream of observations with shape [...]."""

    count: Array  # []
    mean: PyTree
    deviation: PyTree  # sum of (x - mean)^2


def empty(example: PyTree) -> Moments:
    """No observations yet, of things shaped like `example`."""
    zeros = jax.tree.map(lambda x: jnp.zeros(jnp.shape(x)), example)
    return Moments(count=jnp.zeros(()), mean=zeros, deviation=zeros)


def update(moments: Moments, batch: PyTree, mask: Array) -> Moments:
    """Merge a batch [T, B, ...], where mask [T, B] is 1 (Chan, Golub & LeVeque 1983, eq. 2.1)."""
    count = jnp.sum(mask)
    total = moments.count + count
    share = count / jnp.maximum(total, 1.0)

    def merge(mean, deviation, x):
        x = x.astype(mean.dtype)
        weight = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
        batch_mean = jnp.sum(weight * x, axis=(0, 1)) / jnp.maximum(count, 1.0)
        # Once more, for what the sum rounded off: the mean of equal numbers is that number.
        batch_mean += jnp.sum(weight * (x - batch_mean[None, None]), axis=(0, 1)) / jnp.maximum(count, 1.0)
        around = (x - batch_mean[None, None]) ** 2
        delta = batch_mean - mean
        spread = deviation + jnp.sum(weight * around, axis=(0, 1)) + delta**2 * moments.count * share
        return mean + delta * share, spread

    merged = jax.tree.map(merge, moments.mean, moments.deviation, batch)
    pick = lambda i: jax.tree.map(lambda _, pair: pair[i], moments.mean, merged)  # noqa: E731
    return Moments(count=total, mean=pick(0), deviation=pick(1))


def std(moments: Moments) -> PyTree:
    """Standard deviation; 1 where it isn't known yet, since all that was seen is equal but for rounding."""

    def one(mean, deviation):
        found = jnp.sqrt(deviation / jnp.maximum(moments.count, 1.0))
        # `update` finds the mean of equal numbers to a rounding.
        return jnp.where(found <= 2 * jnp.finfo(mean.dtype).eps * jnp.abs(mean), 1.0, found)

    return jax.tree.map(one, moments.mean, moments.deviation)


def normalize(moments: Moments, x: PyTree, limit: float = 10.0) -> PyTree:
    """(x - mean) / std, clipped to [-limit, limit]; x is [..., *shape of the mean]."""

    def one(x, mean, scale):
        shape = (1,) * (x.ndim - mean.ndim) + mean.shape
        return jnp.clip((x - mean.reshape(shape)) / scale.reshape(shape), -limit, limit)

    return jax.tree.map(one, x, moments.mean, std(moments))

"""Means and deviations: of one batch, and running ones of all that a learner has seen, as a part of its state.

Numbers that differ by no more than rounding are equal: their deviation says nothing, and nothing is divided by it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgjax.types import Array, PyTree


class Moments(NamedTuple):
    """Count, mean and sum of squared deviations of a stream of observations with shape [...]."""

    count: Array  # type: ignore[assignment]  # []; it hides tuple.count
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
    """(x - mean) / std, clipped to [-limit, limit]; x is [..., *shape of the mean]; it stays where the mean is None."""

    def one(x, mean, scale):
        if mean is None:
            return x
        shape = (1,) * (x.ndim - mean.ndim) + mean.shape
        return jnp.clip((x - mean.reshape(shape)) / scale.reshape(shape), -limit, limit)

    flat: tuple[list[Any], Any] = jax.tree.flatten(x)
    leaves, tree = flat
    found = zip(leaves, tree.flatten_up_to(moments.mean), tree.flatten_up_to(std(moments)), strict=True)
    return tree.unflatten([one(*each) for each in found])

"""Means and deviations over the entries that a mask counts."""

import jax.numpy as jnp

from pgjax.types import Array


def normalized(advantage: Array, mask: Array, magnitude: Array | None = None) -> Array:
    """Mean 0 and standard deviation 1 over the steps that count, however small or large the advantages are.

    All are 0 where they differ by rounding alone, see `standard`. A single step keeps its advantage, since one number
    has no deviation.

    Args:
      magnitude: the size of the returns and values whose difference the advantage is, where it is known.
    """
    centred, deviation = standard(advantage, mask, magnitude)
    alone = jnp.sum(mask > 0) == 1
    found = centred / jnp.where(deviation == 0, 1.0, deviation)
    return jnp.where(alone & (mask > 0), advantage, found)


def mean(x: Array, mask: Array) -> Array:
    """The mean over the entries where mask is 1; 0 where the mask is 0 everywhere. Other entries may be NaN."""
    return jnp.sum(jnp.where(mask > 0, x, 0.0)) / jnp.maximum(jnp.sum(mask), 1.0)


def rounding(magnitude: Array, terms: int | Array = 1) -> Array:
    """The range that rounding alone may give to equal numbers: (8 + sqrt(terms)) eps magnitude.

    The rounding error of a sum grows as the square root of the number of its terms (Higham & Mary 2019, sec. 3); a sum
    in pairs stays below that, including the rounding of the terms.

    Args:
      magnitude: [...] the size of the numbers, or of the largest term of each.
      terms: the number of terms of each sum, or of a batch of them.
    """
    return jnp.finfo(jnp.result_type(magnitude)).eps * magnitude * (8 + jnp.sqrt(1.0 * terms))


def standard(x: Array, mask: Array, magnitude: Array | None = None, terms: int | None = None) -> tuple[Array, Array]:
    """(x - mean, standard deviation) over the N entries where mask is 1; both 0 where these are equal.

    They count as equal where their range is within `rounding` of the largest. x - mean is 0 where mask is 0.

    Args:
      magnitude: shaped like x, the size of the numbers whose difference x is, where they are larger than x.
      terms: the number of terms that each was summed from; by default N, at most 4,096.
    """
    counts = mask > 0
    total = jnp.maximum(jnp.sum(mask), 1.0)
    x = jnp.where(counts, x, 0.0)
    largest = jnp.max(jnp.abs(x))
    low, high = (f(x, where=counts, initial=end) for f, end in ((jnp.min, jnp.inf), (jnp.max, -jnp.inf)))
    spread = high - low
    if magnitude is not None:
        largest = jnp.maximum(largest, jnp.max(jnp.where(counts, magnitude, 0.0)))
    # Written so that NaN and inf propagate.
    equal = (spread <= rounding(largest, jnp.minimum(total, 4096.0) if terms is None else terms)) & (spread < jnp.inf)
    # Far from 0 a sum would hold little of the spread, and far from 1 squares would leave the numbers' range.
    shift = jnp.where(equal | (16 * spread < largest), low, 0.0)
    unit = jnp.where(equal | ((spread > 1e-15) & (spread < 1e15)), 1.0, spread)
    x = jnp.where(counts, (x - shift) / unit, 0.0)
    centred = jnp.where(counts & ~equal, x - jnp.sum(x * mask) / total, 0.0)
    return unit * centred, unit * jnp.sqrt(jnp.sum(centred**2 * mask) / total)

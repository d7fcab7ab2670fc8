"""A trajectory or a batch in; its evaluation in cache-sized pieces, a random order, a minibatch out."""

import jax
import jax.numpy as jnp

from pgjax.types import Array


def shuffle(key: Array, rows: int) -> Array:
    """A random order of `rows` indices, from one sort of words (random bits, index).

    `random.permutation` takes two sorts of pairs, six to nine times as long. Rows whose random bits
    agree keep their order among themselves, which can only be felt where a minibatch ends: so at
    least 12 of the 32 bits must be random.
    """
    width = (rows - 1).bit_length()
    if width > 20:
        return jax.random.permutation(key, rows)
    bits = jax.random.bits(key, (rows,)) >> width << width
    words = jnp.sort(bits | jnp.arange(rows, dtype=jnp.uint32))
    return (words & jnp.uint32((1 << width) - 1)).astype(jnp.int32)

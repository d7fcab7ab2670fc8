"""The random numbers of jax's own generator, bit for bit, at a fraction of its cost on a CPU.

There jax computes the twenty rounds of Threefry in a loop of five, each of some sixty small operations: for the few
numbers of one step of a rollout nearly all of the time goes into starting these. Here a block is one operation.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.random import define_prng_impl

from pgjax.types import Array

ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
PARITY = 0x1BD11BDA
WORDS = {8: jnp.uint8, 16: jnp.uint16, 32: jnp.uint32, 64: jnp.uint64}


def key(seed: Any, generator: str | None = None) -> Array:
    """`jax.random.key(seed, impl=generator)`, with the numbers of this module where they are jax's and it is faster.

    Args:
      generator: None is the one that jax was told.
    """
    name = generator or jax.config.jax_default_prng_impl  # type: ignore[attr-defined]  # jax declares none of them
    same = name == "threefry2x32" and jax.config.jax_threefry_partitionable  # type: ignore[attr-defined]
    return jax.random.key(seed, impl=UNROLLED if same and jax.default_backend() == "cpu" else name)


@jax.jit
def _block(key: Array, high: Array, low: Array) -> tuple[Array, Array]:
    """Threefry-2x32 of 20 rounds: the words (high, low) of a counter, any shape, by a key [2]."""
    words = key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(PARITY)
    x, y = high + words[0], low + words[1]
    for group in range(5):
        for turn in ROTATIONS[group % 2]:
            x = x + y
            y = x ^ (y << turn | y >> (32 - turn))
        x, y = x + words[(group + 1) % 3], y + words[(group + 2) % 3] + jnp.uint32(group + 1)
    return x, y


def _counters(shape: tuple[int, ...]) -> tuple[Array, Array]:
    """0, 1, 2, ... in this shape, as high and low words."""
    size = math.prod(shape)
    if size >= 2**32:
        raise ValueError(f"{size:,} random numbers at once; draw fewer than {2**32:,} by a key")
    return jnp.zeros(shape, jnp.uint32), jax.lax.iota(jnp.uint32, size).reshape(shape)


@functools.partial(jax.jit, inline=True)
def _seed(seed: Array) -> Array:
    high = jax.lax.shift_right_logical(seed, jax.lax.convert_element_type(32, seed.dtype))  # 0 of 32 bits
    return jnp.stack([high.astype(jnp.uint32), seed.astype(jnp.uint32)])


def _split(key: Array, shape: tuple[int, ...]) -> Array:
    return jnp.stack(_block(key, *_counters(shape)), axis=-1)


def _bits(key: Array, width: int, shape: tuple[int, ...]) -> Array:
    high, low = _block(key, *_counters(shape))
    if width == 64:
        return high.astype(jnp.uint64) << 32 | low.astype(jnp.uint64)
    return (high ^ low).astype(WORDS[width])


def _fold_in(key: Array, data: Any) -> Array:
    return jnp.stack(_block(key, jnp.uint32(0), jnp.asarray(data).astype(jnp.uint32)))


UNROLLED = define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    random_bits=_bits,
    fold_in=_fold_in,
    name="threefry2x32_unrolled",
    tag="tfu",
)

"""The numbers are those of jax's own generator, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax.numerics import threefry

DRAWS = {
    "split": lambda k: jax.random.key_data(jax.random.split(k, (3, 5))),
    "split once": lambda k: jax.random.key_data(jax.random.split(k)),
    "fold_in": lambda k: jax.random.key_data(jax.random.fold_in(k, 2**31 - 3)),
    "fold_in a negative number": lambda k: jax.random.key_data(jax.random.fold_in(k, jnp.int32(-1))),
    "fold_in each": lambda k: jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(k, i)))(jnp.arange(6)),
    "8 bits": lambda k: jax.random.bits(k, (5,), "uint8"),
    "16 bits": lambda k: jax.random.bits(k, (5,), "uint16"),
    "one number": lambda k: jax.random.normal(k),
    "no number": lambda k: jax.random.normal(k, (0, 3)),
    "uniform": lambda k: jax.random.uniform(k, (3, 7)),
    "normal of each": lambda k: jax.vmap(lambda q: jax.random.normal(q, (2,)))(jax.random.split(k, 4)),
    "permutation": lambda k: jax.random.permutation(k, 100),
    "gumbel": lambda k: jax.random.gumbel(k, (4,)),
    "randint": lambda k: jax.random.randint(k, (9,), 0, 1000),
    "gamma": lambda k: jax.random.gamma(k, 2.0, (3,)),
}


@pytest.mark.parametrize("seed", [0, 1, 42, -5, 2**31 - 1, 2**32 - 1, np.uint32(7)], ids=str)
def test_keys(seed):
    same = jax.random.key_data(jax.random.key(seed))
    np.testing.assert_array_equal(jax.random.key_data(threefry.key(seed)), same)
    np.testing.assert_array_equal(
        jax.jit(lambda x: jax.random.key_data(threefry.key(x)))(np.uint32(int(seed) % 2**32)), same
    )


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_draws(draw):
    for seed in (3, 2**32 - 1):
        theirs, ours = draw(jax.random.key(seed)), draw(threefry.key(seed))
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(jax.jit(draw)(threefry.key(seed)), theirs)


def test_64_bits():
    with jax.enable_x64(True):
        for seed in (3, 2**40 + 3):
            theirs, ours = (jax.random.bits(make(seed), (5,), "uint64") for make in (jax.random.key, threefry.key))
            np.testing.assert_array_equal(ours, theirs)


def test_the_block_is_that_of_the_paper():
    """Its known answers: Random123's file of them for threefry2x32 with 20 rounds."""
    for key, counter, out in (
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ):
        found = threefry._block(jnp.array(key, jnp.uint32), *jnp.array(counter, jnp.uint32))
        assert tuple(int(x) for x in found) == out


def test_a_draw_is_no_loop():
    text = jax.jit(jax.random.uniform, static_argnums=1).lower(threefry.key(0), (8,)).as_text()
    theirs = jax.jit(jax.random.uniform, static_argnums=1).lower(jax.random.key(0), (8,)).as_text()
    assert "while" not in text and "while" in theirs


def test_other_generators_are_jaxs_own():
    assert threefry.key(0, "philox4x32").dtype == jax.random.key(0, impl="philox4x32").dtype
    with jax.default_prng_impl("rbg"):
        assert threefry.key(0).dtype == jax.random.key(0).dtype
        assert threefry.key(0, "threefry2x32").dtype == threefry.key(0, "threefry2x32").dtype != jax.random.key(0).dtype
    with jax.threefry_partitionable(False):
        assert threefry.key(0).dtype == jax.random.key(0).dtype


def test_too_many_at_once_are_refused():
    with pytest.raises(ValueError, match="draw fewer than 4,294,967,296 by a key"):
        jax.jit(lambda k: jax.random.bits(k, (2**16, 2**16))).lower(threefry.key(0))

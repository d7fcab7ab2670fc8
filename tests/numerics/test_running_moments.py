"""Streaming moments against numpy on everything at once, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax.numerics import masked, running_moments

update = jax.jit(running_moments.update)


def _batches(seed, number, shape, mean=0.0, scale=1.0):
    g = np.random.default_rng(seed)
    return (mean + scale * g.normal(size=(number, *shape))).astype(np.float32)


def _feed(batches, masks):
    state = running_moments.empty(batches[0, 0, 0])
    for batch, mask in zip(batches, masks, strict=True):
        state = update(state, batch, mask)
    return state


def test_streaming_equals_the_whole():
    batches = _batches(0, 7, (5, 4, 3), mean=2.0, scale=3.0)
    state = _feed(batches, np.ones((7, 5, 4), np.float32))
    whole = batches.reshape(-1, 3).astype(np.float64)
    assert state.count == len(whole)
    np.testing.assert_allclose(state.mean, whole.mean(0), rtol=1e-5)
    np.testing.assert_allclose(state.deviation, ((whole - whole.mean(0)) ** 2).sum(0), rtol=1e-5)
    np.testing.assert_allclose(running_moments.std(state), whole.std(0), rtol=1e-5)


def test_float64_streaming_is_exact():
    with jax.enable_x64(True):
        batches = np.random.default_rng(1).normal(size=(6, 5, 4))
        state = running_moments.empty(np.float64(0))
        for batch in batches:
            state = jax.jit(running_moments.update)(state, batch, np.ones((5, 4)))
        assert state.mean.dtype == jnp.float64
        np.testing.assert_allclose(state.mean, batches.mean(), rtol=1e-12)
        np.testing.assert_allclose(state.deviation, batches.var() * batches.size, rtol=1e-12)


def test_only_what_the_mask_keeps_is_seen():
    batches = _batches(2, 6, (5, 4, 2))
    masks = (np.random.default_rng(3).random((6, 5, 4)) < 0.6).astype(np.float32)
    masks[2] = 0  # a batch in which nothing counts
    batches[masks == 0] = 1e6
    state = _feed(batches, masks)
    kept = batches[masks == 1].astype(np.float64)
    assert state.count == len(kept)
    np.testing.assert_allclose(state.mean, kept.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(running_moments.std(state), kept.std(0), rtol=1e-4)


def test_nothing_seen_is_mean_0_and_standard_deviation_1():
    state = update(running_moments.empty(jnp.zeros(2)), jnp.ones((3, 4, 2)), jnp.zeros((3, 4)))
    np.testing.assert_array_equal(state.mean, 0)
    np.testing.assert_array_equal(running_moments.std(state), 1)


def test_a_mean_far_from_0_does_not_swallow_the_variance():
    """Sums of squares in float32 would hold nothing of a variance 1 beside a mean of 1e4."""
    batches = _batches(4, 200, (10, 10), mean=1e4)
    whole = batches.astype(np.float64)
    naive = np.mean(batches**2, dtype=np.float32) - np.mean(batches, dtype=np.float32) ** 2
    assert abs(naive - whole.var()) > 0.1
    state = _feed(batches[..., None], np.ones((200, 10, 10), np.float32))
    np.testing.assert_allclose(state.mean[0], whole.mean(), atol=5e-3)
    np.testing.assert_allclose(running_moments.std(state)[0], whole.std(), rtol=2e-3)


def test_the_order_of_batches_does_not_matter():
    batches, masks = _batches(5, 4, (5, 4, 2)), np.ones((4, 5, 4), np.float32)
    forward, backward = _feed(batches, masks), _feed(batches[::-1], masks)
    for a, b in zip(jax.tree.leaves(forward), jax.tree.leaves(backward), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 3), (5, 4, 3), (3,)])
def test_normalize_gives_mean_0_and_standard_deviation_1(shape):
    batches = _batches(6, 1, (50, 40, 3), mean=5.0, scale=2.0)
    state = _feed(batches, np.ones((1, 50, 40), np.float32))
    seen = running_moments.normalize(state, batches[0])
    np.testing.assert_allclose(seen.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std((0, 1)), 1, rtol=1e-5)
    x = np.full(shape, 7.0, np.float32)
    expected = np.broadcast_to((7 - batches.mean((0, 1, 2))) / batches.std((0, 1, 2)), shape)
    np.testing.assert_allclose(running_moments.normalize(state, x), expected, rtol=1e-4)


def test_normalize_clips():
    state = _feed(_batches(7, 1, (50, 40, 1)), np.ones((1, 50, 40), np.float32))
    np.testing.assert_array_equal(running_moments.normalize(state, jnp.array([1e9])), [10])
    np.testing.assert_array_equal(running_moments.normalize(state, jnp.array([-1e9]), limit=3.0), [-3])


def test_a_constant_observation_stays_finite():
    state = _feed(np.full((3, 5, 4, 1), 3, np.float32), np.ones((3, 5, 4), np.float32))
    np.testing.assert_allclose(running_moments.normalize(state, jnp.array([3.0])), 0, atol=1e-3)


@pytest.mark.parametrize("number", [1.1, 37.3, 1e6, -1e-12])
def test_of_equal_numbers_the_mean_is_that_number_and_the_scale_1(number):
    batch = np.full((3, 50, 7, 1), number, np.float32)
    state = _feed(batch, np.ones((3, 50, 7), np.float32))
    np.testing.assert_array_equal(state.mean, np.float32(number))
    np.testing.assert_array_equal(running_moments.std(state), 1)
    np.testing.assert_array_equal(running_moments.normalize(state, batch[0]), 0)


def test_what_differs_by_rounding_alone_scales_by_1_too():
    g = np.random.default_rng(0)
    x = np.float32(1e6) * (1 + np.finfo(np.float32).eps * g.integers(-1, 2, size=(4, 20, 5, 1))).astype(np.float32)
    np.testing.assert_array_equal(running_moments.std(_feed(x, np.ones((4, 20, 5), np.float32))), 1)


def test_after_one_observation_the_scale_is_1():
    state = _feed(np.full((1, 1, 1, 2), 0.7, np.float32), np.ones((1, 1, 1), np.float32))
    np.testing.assert_array_equal(running_moments.normalize(state, jnp.full(2, 1.2)), np.float32(1.2) - np.float32(0.7))


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1e-6), (0.0, 1e-12), (1e-3, 1e-4), (1e4, 0.1)])
def test_small_spreads_that_are_real_are_normalised(mean, scale):
    batches = _batches(11, 3, (50, 40, 1), mean, scale)
    state = _feed(batches, np.ones((3, 50, 40), np.float32))
    np.testing.assert_allclose(
        running_moments.normalize(state, batches[0]).std(),
        batches[0].std(dtype=float) / batches.std(dtype=float),
        rtol=0.02,
    )


class TestStandard:
    @pytest.mark.parametrize(("mean", "scale"), [(0, 1), (0, 1e-12), (0, 1e-25), (0, 1e25), (1e-3, 1e-4), (1e4, 0.1)])
    def test_against_numpy(self, mean, scale):
        x = _batches(12, 1, (60, 8), mean, scale)[0]
        mask = (np.random.default_rng(13).random(x.shape) < 0.7).astype(np.float32)
        kept = x[mask > 0].astype(np.float64)
        centred, deviation = jax.jit(masked.standard)(np.where(mask > 0, x, np.nan), mask)
        np.testing.assert_allclose(deviation, kept.std(), rtol=1e-4)
        np.testing.assert_allclose(np.asarray(centred)[mask > 0], kept - kept.mean(), atol=2e-4 * kept.std())
        np.testing.assert_array_equal(np.asarray(centred)[mask == 0], 0)

    def test_a_difference_of_large_numbers_has_no_spread_below_their_rounding(self):
        x = np.float32([3e-3, -2e-3, 1e-3, 0.0])
        assert masked.standard(x, np.ones(4))[1] > 1e-3
        centred, deviation = masked.standard(x, np.ones(4), np.full(4, 1e4, np.float32))
        assert deviation == 0 and not np.any(centred)

    def test_what_is_no_number_stays_none(self):
        for bad in (np.nan, np.inf):
            assert not np.isfinite(masked.standard(np.float32([1, bad, 2]), np.ones(3))[1])


def test_trees_and_integers_are_observed_leaf_by_leaf():
    g = np.random.default_rng(8)
    batch = {"count": g.integers(0, 9, size=(5, 4)), "image": g.normal(size=(5, 4, 2, 3)).astype(np.float32)}
    example = jax.tree.map(lambda x: x[0, 0], batch)
    state = update(running_moments.empty(example), batch, jnp.ones((5, 4)))
    np.testing.assert_allclose(state.mean["count"], batch["count"].mean(), rtol=1e-6)
    np.testing.assert_allclose(state.mean["image"], batch["image"].mean((0, 1)), rtol=1e-5, atol=1e-6)
    seen = running_moments.normalize(state, batch)
    np.testing.assert_allclose(seen["count"].mean(), 0, atol=1e-5)


def test_vmap_over_lanes_equals_a_loop():
    batches = _batches(9, 3, (5, 4, 2))
    masks = (np.random.default_rng(10).random((3, 5, 4)) < 0.5).astype(np.float32)
    lanes = jax.vmap(lambda batch, mask: running_moments.update(running_moments.empty(jnp.zeros(2)), batch, mask))(
        batches, masks
    )
    for i in range(3):
        alone = update(running_moments.empty(jnp.zeros(2)), batches[i], masks[i])
        for a, b in zip(jax.tree.leaves(lanes), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(np.asarray(a)[i], b, rtol=1e-5, atol=1e-6)


def test_many_numbers_that_differ_by_hundreds_of_roundings_differ():
    """The range that rounding gives doesn't grow with how many numbers there are."""
    x = 1 + 1e-5 * jnp.sign(jax.random.normal(jax.random.key(0), (2**20,)))
    centred, deviation = masked.standard(x, jnp.ones_like(x))
    np.testing.assert_allclose(deviation, np.std(np.asarray(x, np.float64)), rtol=1e-2)


def test_the_deviation_of_numbers_far_from_0_is_theirs():
    """40 roundings wide, which is no rounding."""
    x = 1e6 + 0.4 * jax.random.normal(jax.random.key(0), (64, 8))
    found = running_moments.std(update(running_moments.empty(x[0, 0]), x, jnp.ones((64, 8))))
    np.testing.assert_allclose(found, np.std(np.asarray(x, np.float64)), rtol=0.05)

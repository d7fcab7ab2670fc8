"""Distributions over legal actions, and over several choices at once, against float64 sums over all actions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax.envs.spaces import padded
from pgjax.policies.choices import MultiCategorical, legal_only, mixed, multi_categorical
from pgjax.policies.distributions import Categorical, DiagGaussian, Joint

NVEC = (2, 4, 1)
LOGITS = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
OTHER = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
MASK = np.array([[True, False, True, True, False], [False, False, False, True, False], [True] * 5])


def given_legal(logits, mask):
    """The conditional distribution, in float64."""
    p = np.exp(np.asarray(logits, np.float64)) * mask
    return p / p.sum(-1, keepdims=True)


def test_it_is_the_distribution_given_that_the_action_is_legal():
    dist, other = legal_only(Categorical(LOGITS), MASK), legal_only(Categorical(OTHER), MASK)
    p, q = given_legal(LOGITS, MASK), given_legal(OTHER, MASK)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_p, ratio = np.log(p), np.where(p > 0, np.log(p / q), 0)
        entropy = -np.sum(np.where(p > 0, p * log_p, 0), axis=-1)
    np.testing.assert_allclose(np.exp(dist.log_probs()), p, atol=1e-6)
    for action in range(5):
        chance = dist.log_prob(jnp.full(3, action))
        np.testing.assert_allclose(chance, log_p[:, action], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dist.entropy(), entropy, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dist.kl(other), np.sum(p * ratio, -1), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(dist.mode(), np.argmax(p, -1))
    draws = jax.vmap(dist.sample)(jax.random.split(jax.random.key(0), 4000))
    counted = np.stack([np.mean(np.asarray(draws) == action, axis=0) for action in range(5)], axis=-1)
    assert np.all(counted[p == 0] == 0)
    assert np.all(np.abs(counted - p) <= 5 * np.sqrt(p * (1 - p) / 4000))


def test_gradients_of_all_orders_are_finite_and_those_of_the_legal_actions_alone():
    def total(logits):
        dist, other = legal_only(Categorical(logits), MASK), legal_only(Categorical(OTHER), MASK)
        action = jnp.array([2, 3, 4])
        return jnp.sum(dist.log_prob(action) + 0.3 * dist.entropy() + 0.7 * dist.kl(other))

    gradient = jax.grad(total)(LOGITS)
    assert np.all(np.asarray(gradient)[~MASK] == 0)
    h = 1e-3
    for i, j in itertools.product(range(3), range(5)):
        step = np.zeros((3, 5), np.float64)
        step[i, j] = h
        with jax.enable_x64(True):
            near = [float(total(jnp.asarray(LOGITS, jnp.float64) + sign * step)) for sign in (1, -1)]
        np.testing.assert_allclose(gradient[i, j], (near[0] - near[1]) / (2 * h), atol=1e-4)
    second = jax.jvp(jax.grad(total), (LOGITS,), (OTHER,))[1]  # as natural gradients take it
    assert np.all(np.isfinite(second)) and np.all(np.asarray(second)[~MASK] == 0)


def test_a_mask_that_allows_nothing_rules_nothing_out():
    nothing = np.zeros((3, 5), bool)
    np.testing.assert_array_equal(legal_only(Categorical(LOGITS), nothing).logits, LOGITS)
    parts = legal_only(multi_categorical(jnp.zeros((1, 7)), NVEC), np.zeros((1, 3, 4), bool))
    np.testing.assert_array_equal(parts.logits, multi_categorical(jnp.zeros((1, 7)), NVEC).logits)
    # Nor does one that allows none but a choice that isn't there: the first has 2, and its third is padding.
    beyond = np.ones((1, 3, 4), bool)
    beyond[0, 0] = [False, False, True, True]
    parts = legal_only(multi_categorical(jnp.zeros((1, 7)), NVEC), beyond)
    np.testing.assert_allclose(np.exp(Categorical(parts.logits).log_probs())[0, 0], [0.5, 0.5, 0, 0])


def test_a_share_of_uniform_actions_is_over_the_legal_ones():
    dist = mixed(legal_only(Categorical(LOGITS), MASK), 0.25, MASK)
    wanted = 0.75 * given_legal(LOGITS, MASK) + 0.25 * MASK / MASK.sum(-1, keepdims=True)
    np.testing.assert_allclose(np.exp(dist.log_probs()), wanted, atol=1e-6)
    np.testing.assert_allclose(np.exp(mixed(Categorical(LOGITS), 1.0, None).log_probs()), 0.2, atol=1e-6)


def test_several_choices_are_the_product_of_their_categoricals():
    x = np.random.default_rng(2).normal(size=(6, 7)).astype(np.float32)
    dist = multi_categorical(jnp.asarray(x), NVEC)
    alone = [Categorical(jnp.asarray(x[:, a:b])) for a, b in ((0, 2), (2, 6), (6, 7))]
    assert dist.logits.shape == (6, 3, 4)
    action = jnp.asarray([[i % 2, i % 4, 0] for i in range(6)])
    for got, wanted in (
        (dist.log_prob(action), sum(one.log_prob(action[:, i]) for i, one in enumerate(alone))),
        (dist.entropy(), sum(one.entropy() for one in alone)),
        (dist.mode(), np.stack([one.mode() for one in alone], axis=-1)),
    ):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    other = multi_categorical(jnp.asarray(x[::-1].copy()), NVEC)
    np.testing.assert_allclose(
        dist.kl(other), sum(a.kl(Categorical(a.logits[::-1])) for a in alone), rtol=1e-4, atol=1e-6
    )
    draws = np.asarray(jax.vmap(dist.sample)(jax.random.split(jax.random.key(0), 500)))
    assert draws.shape == (500, 6, 3) and np.all(draws < np.array(NVEC))
    assert np.all(np.unique(draws[..., 1]) == np.arange(4))
    assert np.all(np.isfinite(jax.grad(lambda x: jnp.sum(multi_categorical(x, NVEC).entropy()))(jnp.asarray(x))))


def test_masks_of_several_choices_and_of_trees():
    mask = padded(jnp.asarray([[True, False, False, True, True, False, True]]), NVEC, False)
    dist = legal_only(multi_categorical(jnp.zeros((1, 7)), NVEC), mask)
    np.testing.assert_allclose(
        np.exp(Categorical(dist.logits).log_probs())[0], [[1, 0, 0, 0], [0, 0.5, 0.5, 0], [1, 0, 0, 0]]
    )
    both = Joint({"go": Categorical(jnp.zeros((1, 2))), "aim": DiagGaussian(jnp.zeros((1, 1)), jnp.zeros((1, 1)))})
    limited = legal_only(both, {"go": jnp.asarray([[False, True]])})
    np.testing.assert_array_equal(limited.mode()["go"], [1])
    assert limited.parts["aim"] is both.parts["aim"]
    pair = legal_only(Joint((Categorical(jnp.zeros((1, 2))),)), (jnp.asarray([[True, False]]),))
    np.testing.assert_array_equal(pair.mode()[0], [0])


def test_a_distribution_without_choices_is_refused():
    with pytest.raises(TypeError, match="a mask of legal actions needs a Categorical, .* got DiagGaussian; let"):
        legal_only(DiagGaussian(jnp.zeros((1, 1)), jnp.zeros((1, 1))), jnp.ones((1, 1), bool))
    assert MultiCategorical(jnp.zeros((1, 2, 3))).sample(jax.random.key(0)).dtype == jnp.int32

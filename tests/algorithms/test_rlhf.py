"""Pairs, coins, reward models, DPO and the best of n, against plain loops."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import envs, policies, rollout
from pgjax.algorithms import imitation, rlhf
from pgjax.config import Config
from pgjax.policies import transformer

CONFIG = Config(hidden=(8,), heads=2, num_steps=0, rollout="episodes")


@functools.cache
def world():
    env = envs.make("copying")
    return env, policies.make(env, CONFIG)


def moved(params, key):
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return tree.unflatten([x + 0.1 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)])


@functools.cache
def params():
    with jax.ensure_compile_time_eval():  # asked for inside a trace too
        return moved(world()[1].init(jax.random.key(0)), jax.random.key(1))


def fond_of_a():
    """The same world, which pays 2 for each letter a."""
    env = world()[0]

    def step(key, params, state, action):
        state, seen = env.step(key, params, state, action)
        return state, seen._replace(reward=2.0 * (action == 1))

    return env._replace(step=step)


@functools.cache
def pairs(count=64):
    collect = lambda key: rlhf.collect(key, fond_of_a(), world()[1], params(), count)  # noqa: E731
    return jax.jit(collect)(jax.random.key(2))


def reward_of(episodes):
    return np.asarray(jnp.sum(episodes.reward * episodes.mask, axis=1))


def test_both_of_a_pair_answer_the_same_prompt():
    chosen, rejected = pairs()
    np.testing.assert_array_equal(chosen.obs[:, 0], rejected.obs[:, 0])
    assert len(np.unique(chosen.obs[:, 0], axis=0)) > 2
    assert not np.array_equal(chosen.action, rejected.action)


def test_the_coin_falls_by_the_difference_of_the_rewards():
    won, lost = (reward_of(x) for x in pairs(4096))
    for margin in (2, 4):
        unlike = np.abs(won - lost) == margin
        share, expected = np.mean(won[unlike] > lost[unlike]), 1 / (1 + np.exp(-float(margin)))
        assert unlike.sum() > 100
        assert abs(share - expected) < 5 * (expected * (1 - expected) / unlike.sum()) ** 0.5


def test_bradley_terry_against_a_loop():
    g = np.random.default_rng(0)
    chosen, rejected = g.normal(size=(2, 5))
    loss = rlhf.bradley_terry(lambda shift, x: x + shift)
    expected = np.mean([-np.log(1 / (1 + np.exp(b - a))) for a, b in zip(chosen, rejected, strict=True)])
    for shift in (0.0, 3.0):
        np.testing.assert_allclose(loss(shift, (jnp.asarray(chosen), jnp.asarray(rejected))), expected, rtol=1e-5)


def test_dpo_against_a_loop():
    _, policy = world()
    other, beta = moved(params(), jax.random.key(5)), 0.3

    def log_prob(params, episodes):
        found = np.asarray(policy.evaluate(params, episodes).log_prob, np.float64)
        return [sum(found[t, n] for t in range(len(found)) if episodes.mask[t, n]) for n in range(found.shape[1])]

    away = [np.subtract(log_prob(other, x), log_prob(params(), x)) for x in map(imitation.swapped, pairs())]
    expected = np.mean(np.log1p(np.exp(-beta * (away[0] - away[1]))))
    found = jax.jit(rlhf.dpo(policy, params(), beta))(other, pairs())
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose(rlhf.dpo(policy, params(), beta)(params(), pairs()), np.log(2), rtol=1e-5)


def test_dpo_moves_probability_to_what_was_chosen():
    _, policy = world()
    loss = rlhf.dpo(policy, params(), 0.5)
    fit = jax.jit(lambda key: imitation.fit(key, params(), loss, pairs(), 60, batch_size=32))
    after, losses = fit(jax.random.key(6))
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.02

    def margin(params):
        a, b = (jnp.sum(policy.evaluate(params, x).log_prob * x.mask, axis=0) for x in map(imitation.swapped, pairs()))
        return float(jnp.mean(a - b))

    assert margin(after) > margin(params()) + 0.2


@functools.cache
def model():
    shape = transformer.shape_of(world()[0], CONFIG)
    build = lambda rngs: transformer.Transformer(shape, rngs=rngs)  # noqa: E731
    init, score = transformer.reward_model(*policies.functional(build, constants=False))
    with jax.ensure_compile_time_eval():
        return moved(init(jax.random.key(0)), jax.random.key(1)), score


def test_a_reward_model_reads_the_whole_text_and_nothing_behind_it():
    params, score = model()
    texts = jnp.array([[1, 3, 1, 2, 0], [1, 3, 1, 0, 0], [1, 3, 2, 2, 0]])
    found = score(params, texts)
    assert len(np.unique(np.round(found, 5))) == 3
    # Shorter rows say the same: zeros are no tokens.
    np.testing.assert_allclose(score(params, texts[1:2, :3]), found[1:2], rtol=1e-5)


def test_a_rescored_world_pays_the_model_at_the_end_and_is_else_the_same():
    env, policy = world()
    weights, score = model()
    paid = rlhf.rescored(env, score, weights)
    play = lambda env: rollout.episodes(jax.random.key(7), env, policy, params(), 32)  # noqa: E731
    (before, _), (after, found) = jax.jit(lambda: (play(env), play(paid)))()
    np.testing.assert_array_equal(before.action, after.action)
    expected = np.asarray(score(weights, transformer.written(after)))
    np.testing.assert_allclose(found.episode_return, expected, rtol=1e-4, atol=1e-5)
    ends = np.asarray(after.terminated | after.truncated)
    assert np.all(np.asarray(after.reward)[~ends] == 0)
    held = paid.held_out(paid.params)
    assert held["env"]._held_out and held["model"] is weights
    state, _ = paid.reset(jax.random.key(0), paid.params)
    assert int(paid.expert(paid.params, state)) == int(env.expert(env.params, state))


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_the_best_of_n_is_the_mean_over_all_subsets(n):
    g = np.random.default_rng(n)
    score, worth = g.normal(size=(2, 3, 6)).astype(np.float32)
    best = lambda i: [worth[i][max(c, key=lambda j: score[i][j])] for c in itertools.combinations(range(6), n)]  # noqa: E731
    expected = np.mean([np.mean(best(i)) for i in range(3)])
    found = jax.jit(rlhf.best_of_n, static_argnums=2)(score, worth, n)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [0, 7])
def test_more_than_there_are_is_refused(n):
    with pytest.raises(ValueError, match=f"n must lie between 1 and the 6 samples, got {n}"):
        rlhf.best_of_n(jnp.zeros((3, 6)), jnp.zeros((3, 6)), n)

"""Sweeps: settings x seeds as lanes, each what it would be alone."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import algorithms, envs, hyperparameters
from pgjax.config import Config
from pgjax.policies.distributions import Categorical
from pgjax.sweeps import search
from pgjax.training import loop, vectorised
from pgjax.types import Evaluation, Hypers, Policy


def test_a_grid_is_every_combination_with_the_last_name_fastest():
    assert search.grid({"a": [1, 2], "b": ["x", "y", "z"]}) == [
        {"a": a, "b": b} for a, b in itertools.product([1, 2], ["x", "y", "z"])
    ]
    assert search.grid({}) == [{}]


def setting(**values):
    return Hypers(env={}, advantage={}, estimator={}, optimizer={k: jnp.float32(v) for k, v in values.items()})


def test_lanes_are_settings_times_seeds_and_the_seeds_vary_fastest():
    keys, hypers = vectorised.lanes([setting(rate=r, clip=10 * r) for r in (0.1, 0.2)], [5, 7, 2**32 - 1])
    np.testing.assert_allclose(hypers.optimizer["rate"], [0.1] * 3 + [0.2] * 3)
    np.testing.assert_allclose(hypers.optimizer["clip"], [1.0] * 3 + [2.0] * 3)
    # Every setting gets the same seeds, each the key that it would have alone.
    words = np.asarray(jax.random.key_data(keys))
    np.testing.assert_array_equal(words[:3], words[3:])
    np.testing.assert_array_equal(words[0], jax.random.key_data(jax.random.key(5)))
    np.testing.assert_array_equal(words[1], jax.random.key_data(jax.random.key(7)))
    assert len(np.unique(words, axis=0)) == 3


def test_a_table_of_a_setting_becomes_one_table_for_each_lane():
    tables = [np.arange(6.0).reshape(2, 3) + 10 * h for h in range(2)]
    settings = [setting()._replace(env={"reward": jnp.asarray(t, jnp.float32)}) for t in tables]
    _, hypers = vectorised.lanes(settings, [0, 1, 2])
    expected = np.stack([tables[0]] * 3 + [tables[1]] * 3)
    assert hypers.env["reward"].shape == expected.shape
    np.testing.assert_array_equal(hypers.env["reward"], expected)


RATES, GRAVITY, SEEDS, UPDATES = (1e-3, 1e-2), (2.0, 9.8), [3, 4], 3


def linear(inputs, actions):
    """The smallest policy there is of observations [..., inputs]."""

    def act(params, memory, obs):
        return Categorical(obs @ params[:, :actions]), memory

    def evaluate(params, trajectory):
        dist, _ = act(params, (), trajectory.obs)
        value, next_value = trajectory.obs @ params[:, actions], trajectory.next_obs @ params[:, actions]
        return Evaluation(dist, dist.log_prob(trajectory.action), dist.entropy(), value, next_value)

    return Policy(lambda key: jax.random.normal(key, (inputs, actions + 1)), lambda batch: (), act, evaluate)


@pytest.fixture(scope="module")
def swept():
    """Two learning rates x two gravities x two seeds, trained together and evaluated."""
    env = envs.make("CartPole-v1", max_steps_in_episode=6)
    row = algorithms.entry("a2c")
    built = row.learner(env, linear(4, 2), row.algorithm, Config(num_envs=2, num_steps=8))
    settings = [
        hyperparameters.default_hypers(row.algorithm, optimizer={"learning_rate": r}, env={"gravity": g})
        for r, g in itertools.product(RATES, GRAVITY)
    ]
    keys, hypers = vectorised.lanes(settings, SEEDS)

    @jax.jit
    def run(keys, hypers):
        start = vectorised.init(keys, built, hypers)
        states, metrics = vectorised.segment(keys, built, start, hypers, UPDATES)
        return start, states, metrics, vectorised.evaluate(keys, env, built, states, hypers, 5)

    return built, settings, keys, hypers, jax.device_get(run(keys, hypers))


def lane(tree, index):
    return jax.tree.map(lambda x: x[index], tree)


def test_metrics_and_evaluations_have_an_axis_of_lanes(swept):
    _, _, _, _, (_, states, metrics, evaluation) = swept
    assert all(x.shape == (8, UPDATES) for x in metrics.values())
    np.testing.assert_array_equal(states.updates, np.full(8, UPDATES))
    assert np.all(states.finite)
    assert set(evaluation) == {"stochastic", "greedy"}
    for done in evaluation.values():
        assert done.episode_return.shape == done.episode_length.shape == (8, 5)
        # CartPole pays 1 for every step, and the time limit is 6.
        np.testing.assert_array_equal(done.episode_return, done.episode_length)
        assert np.all((done.episode_length >= 1) & (done.episode_length <= 6))


def test_a_lane_of_a_sweep_is_the_same_run_alone(swept):
    built, settings, keys, _, (_, states, metrics, _) = swept
    alone = jax.jit(lambda k, h: loop.train(k, built, loop.init(k, built, h), h, UPDATES))
    for index in (0, 7):
        hypers, seed = settings[index // 2], SEEDS[index % 2]
        state, seen = alone(jax.random.key(seed), hypers)
        close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)  # noqa: E731
        jax.tree.map(close, (state, seen), lane((states, metrics), index))


def test_every_setting_starts_from_the_same_parameters_and_observations(swept):
    _, _, _, _, (start, _, _, _) = swept
    for seed in range(2):
        for index in range(seed, 8, 2):
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6),
                lane(start.learner, index),
                lane(start.learner, seed),
            )
    first, second = start.learner.params[:2]
    assert np.max(np.abs(first - second)) > 1e-3


def test_a_parameter_of_the_world_is_swept_like_any_other(swept):
    _, _, _, hypers, (start, states, metrics, _) = swept
    np.testing.assert_allclose(hypers.env["gravity"], np.float32([2.0, 2.0, 9.8, 9.8] * 2))
    # Lanes 0 and 2 differ in nothing but gravity: the same beginning, another fall.
    assert abs(metrics["loss"][0, 0] - metrics["loss"][2, 0]) > 1e-4
    # Lanes 0 and 4 differ in the learning rate alone, which the first rollout doesn't feel.
    np.testing.assert_allclose(metrics["loss"][0, 0], metrics["loss"][4, 0], rtol=1e-5)
    moved = [np.max(np.abs(states.learner.params[i] - start.learner.params[i])) for i in (0, 4)]
    assert moved[1] > 5 * moved[0]

"""The average-reward experiment at its smoke size; what `exact_relative` expects, by enumeration; the roster's rows."""

import dataclasses
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import algorithms, envs, hyperparameters, oracle, policies, rollout
from pgjax.config import Config
from pgjax.estimators import exact_relative, pieces
from pgjax.numerics import relative_values
from pgjax.training import vectorised
from pgjax.types import Batch, Trajectory

PATH = pathlib.Path(__file__).parents[2] / "experiments" / "average_reward.py"


@pytest.fixture(scope="module")
def random_world():
    return envs.make("TabularMDP-pgjax", horizon=10**6)


@pytest.mark.slow
def test_the_experiment(tmp_path):
    """Its numbers are those of the theory, at a size for tests."""
    found = runpy.run_path(str(PATH))["main"](["--smoke", "--out", str(tmp_path)])
    for figure in ("learning", "bias"):
        assert (tmp_path / f"{figure}.png").stat().st_size > 10_000
    for one in found.values():
        rows = one["report"].summary["estimators"]
        assert one["report"].summary["reference_episodes"] == "exact"
        for name in ("exact q - V", "exact q"):
            assert rows[name]["bias_z"] < 5
        assert rows["exact q - V"]["trace"]["value"] < rows["exact q"]["trace"]["value"]
        # A critic that has hardly begun is far off.
        assert rows["relative TD after 256"]["bias_z"] > 3
        for name, path in one["gains"].items():
            assert path.max() < one["optimum"] + 1e-4, name
            if name.startswith("exact") or one is found["random MDP"]:
                start, end = path[0], path[-1]
                assert (end - start).mean() > 5 * end.std(ddof=1) / end.size**0.5, name
        assert one["gains"]["exact q - V"][-1].mean() > 0.9 * one["optimum"]

    random, pasture = (found[world]["report"].summary["estimators"] for world in ("random MDP", "pasture"))
    # A rollout's own mean reward holds the rewards that followed: the gradient is short by length / steps.
    assert random["8 rollouts, length 64"]["bias_z"] > 3
    short = random["8 rollouts, length 64"]["relative_bias"]
    assert abs(short["value"] - 64 / 128) < 5 * short["se"]
    assert random["8 rollouts, length 64"]["mean_cosine"]["value"] > 0.95
    # Eight steps don't see what grazing does to the land: the gradient points away, and the gain falls.
    assert (
        pasture["1 rollout, length 8"]["bias_z"] > 3 and pasture["1 rollout, length 8"]["mean_cosine"]["value"] < -0.9
    )
    gains = found["pasture"]["gains"]["1 rollout, length 8"]
    assert gains[-1].mean() < gains[0].mean() - 0.02


def test_resting_is_the_best_that_can_be_done_with_the_pasture():
    module = runpy.run_path(str(PATH))
    gain, actions = module["optimum"](module["pasture"]())
    assert actions == (1, 1)
    np.testing.assert_allclose(gain, 0.7 * 10 / 11, rtol=1e-6)


@pytest.mark.parametrize("baseline", [True, False])
def test_the_exact_estimator_expects_the_gradient_of_the_gain(random_world, baseline):
    """Its estimate on each (s, a) by itself, weighed by d(s) pi(a | s), against the oracle's gradient."""
    policy, mdp = policies.make(random_world), oracle.from_env(random_world, 1.0)
    theta = jnp.asarray(np.random.default_rng(5).normal(size=(5, 3)), jnp.float32)
    params = {"preference": theta, "value": jnp.zeros(5)}
    estimator = exact_relative(random_world.params.transition, random_world.params.reward)

    def of_pair(state, action):
        row, no = jnp.zeros(1), jnp.zeros(1, bool)
        obs, action = state[None], action[None]
        seen = Trajectory(obs, action, row, row, no, no, obs, jnp.ones(1), jnp.zeros(1, jnp.int32), ())
        # Whatever advantage the batch brings plays no part.
        batch = Batch(seen, row + 7.0, row, row)
        return estimator(jax.random.key(0), policy, params, batch, baseline=baseline)[0]

    states, actions = (x.ravel() for x in jnp.meshgrid(jnp.arange(5), jnp.arange(3), indexing="ij"))
    each = jax.jit(jax.vmap(of_pair))(states, actions)
    pi = oracle.probabilities(policy, params, 5)
    weight = oracle.average_reward(mdp, pi).stationary[:, None] * pi
    expected = -np.einsum("n,nsa->sa", weight.ravel(), np.asarray(each["preference"], np.float64))
    _, gradient = oracle.average_reward_gradient(mdp, policy, params)
    np.testing.assert_allclose(expected, gradient["preference"], rtol=1e-4, atol=1e-6)
    assert not np.any(each["value"])


@pytest.fixture(scope="module")
def in_turn():
    """Two states in turn, rewards 0 and 2, then an end: by the renewal theorem the gain is 1, reward over length."""
    transition = np.zeros((3, 2, 3))
    transition[[0, 1, 2], :, [1, 2, 2]] = 1.0
    reward = np.array([[0.0, 0.0], [2.0, 2.0], [9.0, 9.0]])
    return envs.make(
        "TabularMDP-pgjax", transition=transition, reward=reward, start=np.eye(3)[0], terminal=np.eye(3)[2] > 0
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unroll", "episodes"])
@pytest.mark.parametrize("name", ["relative_actor_critic", "differential_actor_critic"])
def test_where_episodes_end_the_gain_is_their_reward_over_their_length(in_turn, name, kind):
    """Whatever the gain's rate, and however the ends fall into the rollouts."""
    row = algorithms.entry(name)
    for steps in (1, 3) if kind == "unroll" else (0,):
        config = dataclasses.replace(row.config, num_envs=4, num_steps=steps, rollout=kind)
        learns = row.learner(in_turn, policies.make(in_turn, config), row.algorithm, config)
        rates = [{"gain_rate": rate} for rate in (0.01, 0.1)]
        hypers = [
            hyperparameters.default_hypers(row.algorithm, advantage=rate, optimizer={"learning_rate": 1e-2})
            for rate in rates
        ]
        keys, hypers = vectorised.lanes(hypers, [0, 1])
        states = jax.jit(lambda keys, hypers, learns=learns: vectorised.init(keys, learns, hypers))(keys, hypers)
        states, _ = jax.jit(lambda *args, learns=learns: vectorised.segment(args[0], learns, *args[1:], 2000))(
            keys, states, hypers
        )
        np.testing.assert_allclose(states.learner.advantage, 1.0, atol=0.02)


@pytest.mark.parametrize("network", ["mlp", "gru"])
def test_the_start_that_follows_an_end_is_valued_as_the_policy_then_sees_it(network):
    """value[t + 1], and in the last row that of the observation at which the stream stands, its memory fresh."""
    env = envs.make("CartPole-v1", max_steps_in_episode=6, theta_threshold_radians=0.06)
    policy = policies.make(env, Config(hidden=(4,), network=network))
    params = policy.init(jax.random.key(1))

    @jax.jit
    def both(key):
        stream = rollout.start(key, env, policy, 64)
        stream, rows = rollout.unroll(key, env, policy, params, stream, 11)
        _, more = rollout.unroll(key, env, policy, params, stream, 1)
        now = pieces.evaluate(policy, params, rows)
        return rows, now, pieces.continued(policy, params, rows, now, stream), policy.evaluate(params, more).value

    rows, now, found, later = both(jax.random.key(0))
    ended = np.asarray(rows.terminated)
    assert ended[-1].any() and ended[:-1].any() and rows.truncated.any()
    following = np.concatenate([now.value[1:], later])
    np.testing.assert_allclose(np.asarray(found.next_value)[ended], following[ended], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(found.next_value)[~ended], np.asarray(now.next_value)[~ended])


@pytest.mark.parametrize("name", ["relative_actor_critic", "differential_actor_critic"])
def test_the_rows_of_the_roster_raise_the_gain(random_world, name):
    """The exact gain after 256 updates, over 16 seeds, with the row's own plugs and config."""
    row = algorithms.entry(name)
    learns = row.learner(random_world, policies.make(random_world, row.config), row.algorithm, row.config)
    hypers = hyperparameters.default_hypers(row.algorithm, optimizer={"learning_rate": 1e-2})
    keys, hypers = vectorised.lanes([hypers], list(range(16)))

    @jax.jit
    def gains(states):
        pi = jax.nn.softmax(states.learner.params["preference"])
        table = random_world.params
        return jax.vmap(lambda pi: relative_values.relative_values(table.transition, table.reward, pi).gain)(pi)

    states = jax.jit(lambda keys, hypers, learns=learns: vectorised.init(keys, learns, hypers))(keys, hypers)
    after, _ = jax.jit(lambda *args: vectorised.segment(args[0], learns, *args[1:], 256))(keys, states, hypers)
    gained = np.asarray(gains(after) - gains(states))
    assert gained.mean() > 5 * gained.std(ddof=1) / 4
    assert np.asarray(gains(after)).mean() > 0.9 * 1.0546  # the best deterministic policy's gain
    # What the learner believes the gain to be follows, some hundred updates behind.
    believed = np.mean(after.learner.advantage)
    assert gains(states).mean() + 0.3 < believed < gains(after).mean()

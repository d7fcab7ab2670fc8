"""Episodes that an advantage plays from where the trajectory was."""

import functools
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import worlds

import pgjax
from pgjax import Algorithm, Role, envs, estimators, losses, optimizers, policies, rollout, testing, variance
from pgjax.algorithms.playing import play_on
from pgjax.declarations import plays

HORIZON, DISCOUNT = 4, 0.9


def tabular():
    g = np.random.default_rng(3)
    tables = dict(
        transition=g.dirichlet(np.ones(3), size=(3, 2)),
        reward=g.normal(size=(3, 2)),
        start=np.array([0.6, 0.4, 0.0]),
        terminal=np.array([False, False, True]),
    )
    return tables, envs.make("TabularMDP-pgjax", **tables, horizon=HORIZON)


def values(tables, pi):
    """V_t(s) with HORIZON - t steps to go, in float64: the recursion of the Bellman equation, [HORIZON + 1, S]."""
    found = np.zeros((HORIZON + 1, 3))
    for t in reversed(range(HORIZON)):
        q = tables["reward"] + DISCOUNT * tables["transition"] @ found[t + 1]
        found[t] = np.where(tables["terminal"], 0.0, np.sum(pi * q, axis=1))
    return found


@pytest.mark.parametrize("gather", ["unroll", "episodes"])
def test_the_mean_of_what_follows_is_the_value_of_each_state_at_its_time(gather):
    tables, env = tabular()
    policy, g = policies.make(env), np.random.default_rng(4)
    params = {"preference": jnp.asarray(g.normal(size=(3, 2)), jnp.float32), "value": jnp.zeros(3)}
    key, count = jax.random.key(0), 4096

    @jax.jit
    def run(key):
        key_rows, key_play = jax.random.split(key)
        if gather == "unroll":
            stream = rollout.start(key, env, policy, 5)
            _, rows = rollout.unroll(key_rows, env, policy, params, stream, 6, keep_states=True)
        else:
            rows, _ = rollout.episodes(key_rows, env, policy, params, 24, keep_states=True)
        play = functools.partial(play_on, key_play, env, policy, params, env.params)
        sums = lambda k: play_on(k, env, policy, params, env.params, rows, samples=16, discount=DISCOUNT)  # noqa: E731
        found = jax.lax.map(sums, jax.random.split(key_play, count // 16))
        return rows, found, play(rows, greedy=True, discount=DISCOUNT), play(rows, samples=2)

    rows, found, greedy, _ = run(key)
    pi = np.exp(np.asarray(jax.nn.log_softmax(params["preference"]), np.float64))
    counts = np.asarray(rows.mask) > 0
    wanted = np.where(counts, values(tables, pi)[rows.time, rows.obs], 0.0)
    mean, error = found.mean(axis=0), found.std(axis=0, ddof=1) / np.sqrt(len(found))
    assert np.all(np.abs(mean - wanted) <= 5 * error + 1e-6)
    assert np.all(np.asarray(found)[:, ~counts] == 0)
    best = np.eye(2)[pi.argmax(axis=1)]
    # One greedy episode from each: right in the mean over the rows of each state and time, and exact one step before
    # the limit.
    last = counts & (np.asarray(rows.time) == HORIZON - 1)
    assert last.any()
    np.testing.assert_allclose(np.asarray(greedy)[last], values(tables, best)[rows.time, rows.obs][last], rtol=1e-5)


def test_a_greedy_baseline_leaves_the_gradient_unbiased_and_rollouts_as_they_were():
    """ReMax's: return less that of the greedy episode from the same start; the environment is deterministic."""
    env = worlds.maze()

    @plays
    def greedy_baseline(play, trajectory, now):
        first = jax.tree.map(lambda x: x[:1], trajectory._replace(memory=()))
        total = jnp.sum(trajectory.reward * trajectory.mask, axis=0)
        return jnp.broadcast_to(total - play(first, greedy=True)[0], now.value.shape), now.value

    def plain(trajectory, now):
        return jnp.broadcast_to(jnp.sum(trajectory.reward * trajectory.mask, axis=0), now.value.shape), now.value

    lifted = estimators.surrogate(losses.policy_gradient, reduce="episode")
    asked = {"rollout": "episodes", "num_steps": 0, "num_envs": 4, "eval_episodes": 2}
    runs = [
        pgjax.run(Algorithm(x, lifted, optimizers.adam), env, updates=2, settings=asked, progress=False)
        for x in (greedy_baseline, plain)
    ]
    returns = [run.metrics["episode_return"].values.reshape(-1) for run in runs]
    assert returns[0][0] == returns[1][0]  # the same first rollout
    steps = [run.summary["env_steps"] for run in runs]
    assert steps[0] > 0 and np.isfinite(runs[0].metrics["loss"].values).all()


def test_an_environment_in_python_has_no_states_to_play_from():
    pytest.importorskip("gymnasium")

    @plays
    def own(play, trajectory, now):
        return play(trajectory), now.value

    with pytest.raises(
        ValueError, match="own plays on from states of the environment, and one stepped in Python keeps"
    ):
        pgjax.run(
            Algorithm(own, estimators.surrogate(losses.ppo_clip), optimizers.adam),
            "gymnasium:CartPole-v1",
            updates=1,
            progress=False,
        )


def test_an_advantage_that_plays_says_so():
    def forgot(play, trajectory, now):
        return play(trajectory), now.value

    with pytest.raises(TypeError, match=r"advantage 'forgot' takes \(play, trajectory, now\), its place gives"):
        pgjax.run(Algorithm(forgot, estimators.surrogate(losses.ppo_clip), optimizers.adam), "CartPole-v1", updates=1)


def test_rewards_that_are_scaled_are_not_those_that_are_played_for():
    @plays
    def own(play, trajectory, now, *, discount: Annotated[float, Role.DISCOUNT] = 0.9):
        return play(trajectory), now.value

    plugs = Algorithm(own, estimators.surrogate(losses.ppo_clip), optimizers.adam)
    with pytest.raises(ValueError, match="own plays for rewards that scale_rewards leaves as they are; use scale_rew"):
        pgjax.run(plugs, "CartPole-v1", updates=1, settings={"scale_rewards": True})


def test_who_has_no_states_to_play_from_says_so():
    @plays
    def own(play, trajectory, now):
        return play(trajectory), now.value

    with pytest.raises(ValueError, match="advantage='own' plays on from states, and replay keeps none; use td"):
        pgjax.run("dqn", "CartPole-v1", advantage=own, updates=1)
    asked = {"mine": variance.Plugs(own, estimators.surrogate(losses.policy_gradient))}
    with pytest.raises(ValueError, match="'mine': own plays episodes of its own; make a Sampler that calls algorithms"):
        variance.prepare(asked, tabular()[1], policies.make(tabular()[1]), None)


def test_an_advantage_that_plays_conforms():
    @plays
    def own(play, trajectory, now):
        return play(trajectory, samples=2) - now.value, now.value

    testing.check_advantage(own)

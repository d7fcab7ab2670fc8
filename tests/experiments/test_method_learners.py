"""Methods with a place of their own in the learner: they play on, average parameters, hold variables, add a phase."""

import math

import chain
import gallery
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from experience import B, T, experience, softmax

from pgjax import policies
from pgjax.algorithms.on_policy import make_learner
from pgjax.algorithms.roster import ROSTER
from pgjax.config import Config
from pgjax.envs.registry import make
from pgjax.hyperparameters import default_hypers
from pgjax.testing import check_advantage
from pgjax.types import Batch

load, KEY = gallery.table.load, jax.random.key(0)
LIMIT, DISCOUNT = chain.LIMIT, 0.9


@pytest.fixture(scope="module")
def played():
    return chain.played()


def test_the_values_of_vineppo_are_those_of_the_policy(played):
    params, trajectory, now, play = played
    pi = softmax(np.float64(params["preference"]))
    value = np.zeros((LIMIT + 1, 5))  # [steps so far, state]; no more at the limit
    for t in reversed(range(LIMIT)):
        for s in range(4):
            ahead = [min(max(s + move, 0), 4) for move in (-1, 1)]
            value[t, s] = sum(p * (0.1 * x + DISCOUNT * value[t + 1, x]) for p, x in zip(pi[s], ahead, strict=True))
    found, _ = load("vineppo")(play, trajectory, now, discount=DISCOUNT, vines=400)
    counts = np.asarray(trajectory.mask) > 0
    s, following, time = (np.asarray(x)[counts] for x in (trajectory.obs, trajectory.next_obs, trajectory.time))
    expected = 0.1 * following + DISCOUNT * value[time + 1, following] - value[time, s]
    assert np.abs(np.asarray(found)[counts] - expected).max() < 5 * math.sqrt(2 * 0.25 / 400)
    assert abs(np.mean(np.asarray(found)[counts] - expected)) < 0.03
    check_advantage(load("vineppo"), vines=2)


def descended(transform, curvature, x, steps):
    """Of each step down curvature x^2 / 2: (parameters, those to evaluate)."""
    params = {"x": jnp.float32(x)}
    state = transform.init(params)
    for _ in range(steps):
        gradient = {"x": curvature * params["x"]}
        updates, state = transform.update(gradient, state, params, value=jnp.float32(0.0))
        params = {"x": params["x"] + updates["x"]}
        yield np.float64(params["x"]), transform.final(params, state)["x"]


def test_polyak_evaluates_the_mean_of_what_learns():
    mean = np.array([1.0, -2.0])
    for x, found in descended(load("polyak")(decay=0.7, learning_rate=0.1), 1.0, mean, 4):
        mean = 0.7 * mean + 0.3 * x
        np.testing.assert_allclose(found, mean, rtol=1e-5)
        assert np.abs(x - mean).max() > 0.01


def test_schedule_free_evaluates_the_mean_of_its_inner_iterates():
    x = z = y = np.array([0.2, -0.1])
    square, rate, b = np.zeros(2), 0.05, 0.8
    transform = load("schedule_free")(learning_rate=rate, momentum=b)
    for n, (found, evaluated) in enumerate(descended(transform, np.array([1.0, 3.0]), y, 5), start=1):
        gradient = np.array([1.0, 3.0]) * y
        gradient *= min(1.0, 0.5 / np.sqrt(gradient @ gradient))
        square = 0.999 * square + 0.001 * gradient**2
        z = z - rate * gradient / (np.sqrt(square / (1 - 0.999**n)) + 1e-8)
        x = x + (z - x) / n  # the mean of z_1 to z_n
        y = b * x + (1 - b) * z
        np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(evaluated, x, rtol=1e-4, atol=1e-6)
        assert np.abs(x - y).max() > 1e-3 or n == 1


def test_plateau_halves_the_steps_where_the_loss_falls_no_more():
    transform, one, sizes = load("plateau")(learning_rate=0.1, patience=2, steps=1), {"x": jnp.ones(1)}, []
    state = transform.init(one)
    for loss in (3.0, 2.0, 1.0, 1.0, 1.5, 1.0, 1.0, 0.5, 0.5):
        updates, state = transform.update(one, state, one, value=jnp.float32(loss))
        sizes.append(-float(updates["x"][0]) / 0.1)
    np.testing.assert_allclose(sizes, [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25], rtol=1e-3)


def learner(name):
    """(learner, state, hypers) of PPO with this policy on CartPole, the state after one update too."""
    row, env = ROSTER["ppo"], make("CartPole-v1")
    config = Config(num_envs=4, num_steps=8, hidden=(8,), num_minibatches=2)
    made = make_learner(env, load(name)(env, config), row.algorithm, config)
    hypers = default_hypers(row.algorithm)
    state = jax.jit(made.init)(KEY, hypers)
    return made, [state, jax.jit(made.step)(KEY, state, hypers)[0]], hypers


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dropout", "batch_norm"])
def test_the_policy_that_is_evaluated_is_the_one_that_acted(name):
    made, states, hypers = learner(name)
    held = [jax.tree.leaves(state.variables) for state in states]
    assert any(not np.array_equal(x, y) for x, y in zip(*held, strict=True))

    @jax.jit
    def both(state):
        policy, params = made.behaviour(state)
        _, rows = made.collect(KEY, policy, params, state, hypers)
        after, last = made.policy(state)
        return rows.log_prob, *(p.evaluate(w, rows).log_prob for p, w in ((policy, params), (after, last)))

    for state in states:
        acted, evaluated, final = both(state)
        np.testing.assert_allclose(acted, evaluated, rtol=1e-4, atol=1e-5)
    assert np.allclose(final, acted, rtol=1e-4, atol=1e-5) == (name == "batch_norm")  # dropout is off in the end


def test_batch_norm_gathers_the_moments_of_the_steps_that_count():
    env = make("CartPole-v1")
    policy = load("batch_norm")(env, Config(hidden=(8,)))
    params, held = policy.init(KEY), policy.variables.init(KEY)
    trajectory = experience(policies.make(make("TabularMDP-pgjax")))[1].trajectory
    obs = jax.random.normal(KEY, (T, B, 4))
    trajectory = trajectory._replace(obs=obs, mask=jnp.ones((T, B)))
    after = policy.variables.after(KEY, params, held, trajectory)
    layer = {k: np.float64(x) for k, x in params["torso"]["layers"][0].items()}
    hidden = np.tanh(np.float64(obs).reshape(-1, 4) @ layer["kernel"] + layer["bias"])
    np.testing.assert_allclose(after.statistics["norm"]["mean"], 0.1 * hidden.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after.statistics["norm"]["var"], 0.9 + 0.1 * hidden.var(axis=0), rtol=1e-4)


def test_popart_normalises_targets_and_keeps_values():
    row, env = load("popart"), make("CartPole-v1")
    config = Config(num_envs=4, num_steps=8, hidden=(8,))
    made = row.learner(env, row.policy(env, config), row.algorithm, config)
    hypers = default_hypers(row.algorithm, optimizer={"learning_rate": 1e-30}, updater={"beta": 0.3})
    state = jax.jit(made.init)(KEY, hypers)
    policy, params = made.policy(state)
    updater = row.algorithm.updater(row.algorithm, config, False, beta=0.3)
    trajectory = jax.eval_shape(lambda s: made.collect(KEY, policy, params, s, hypers)[1], state)
    rows = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), trajectory)
    rows = rows._replace(obs=jax.random.normal(KEY, rows.obs.shape), mask=jnp.ones_like(rows.mask))
    apply = jax.jit(lambda *x: updater.apply(KEY, policy, *x, hypers))
    now = policy.evaluate(params, rows)
    first, mean, square, inner = now.value, 0.0, 1.0, state.updater
    for scale in (100.0, 3.0):
        target = scale * jax.random.normal(KEY, first.shape) + 40.0
        batch = Batch(rows, jnp.zeros_like(target), target, first, now)
        params, inner, metrics = apply(params, inner, batch)
        mean += 0.3 * (np.float64(target).mean() - mean)
        square += 0.3 * ((np.float64(target) ** 2).mean() - square)
        np.testing.assert_allclose(params["mu"], mean, rtol=1e-4)
        np.testing.assert_allclose(params["sigma"], math.sqrt(square - mean**2), rtol=1e-4)
        np.testing.assert_allclose(policy.evaluate(params, rows).value, first, rtol=1e-3, atol=1e-3)
        error = np.mean((np.float64(first) - np.float64(target)) ** 2) / (square - mean**2) / 2
        np.testing.assert_allclose(metrics["loss"], 0.5 * error, rtol=1e-3)

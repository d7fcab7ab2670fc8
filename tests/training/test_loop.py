"""Training: keys by the number of the update, segments anywhere, and numerical failure as data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import algorithms, envs, hyperparameters, policies
from pgjax.config import Config
from pgjax.training import failures, loop
from pgjax.types import Learner


def toy(grow=1.0, traces=None):
    """A learner whose state tells which keys it was given: a chain that every key turns."""

    def init(key, hypers):
        return {"x": jax.random.uniform(key), "steps": jnp.int32(0)}

    def step(key, state, hypers):
        if traces is not None:
            traces.append(1)
        x = state["x"] * grow + jax.random.uniform(key)
        # Division by zero at the update that hypers name, and by anything else at the others.
        x = x / jnp.where(state["steps"] == hypers, 0.0, 1.0)
        return {"x": x, "steps": state["steps"] + 1}, {"x": x, "u": state["steps"].astype(jnp.float32)}

    return Learner(init=init, update=step, policy=lambda state: (None, {"x": state["x"]}))


NEVER = jnp.int32(-1)


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_the_key_of_an_update_is_its_number_folded_in():
    key, made = jax.random.key(3), toy()
    state, metrics = loop.train(key, made, loop.init(key, made, NEVER), NEVER, 4)
    x = jax.random.uniform(jax.random.fold_in(key, 2**31 - 1))
    for u in range(4):
        x = x + jax.random.uniform(jax.random.fold_in(key, u))
        np.testing.assert_allclose(metrics["x"][u], x, rtol=1e-6)
    assert int(state.updates) == 4 and bool(state.finite)
    np.testing.assert_array_equal(metrics["u"], [0, 1, 2, 3])


def test_more_updates_cost_no_more_traces():
    traces = []
    made = toy(traces=traces)
    run = jax.jit(lambda key, state: loop.train(key, made, state, NEVER, 5))
    state = loop.init(jax.random.key(0), made, NEVER)
    for _ in range(3):
        state, _ = run(jax.random.key(0), state)
    assert len(traces) == 1 and int(state.updates) == 15


@pytest.fixture(scope="module")
def a2c():
    env = envs.make("TabularMDP-pgjax", horizon=4)
    config = Config(num_envs=2, num_steps=4, num_epochs=2, num_minibatches=2)
    row = algorithms.entry("a2c")
    return row.learner(env, policies.make(env, config), row.algorithm, config), hyperparameters.default_hypers(
        row.algorithm
    )


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [(3, 4), (3, 3)], ids=["toy", "a2c"])
def test_training_cut_into_segments_is_training_at_once_bit_for_bit(lengths, a2c):
    made, hypers = a2c if lengths == (3, 3) else (toy(), NEVER)
    key = jax.random.key(0)
    run = jax.jit(lambda key, state, count: loop.train(key, made, state, hypers, count), static_argnums=2)
    start = jax.jit(lambda key: loop.init(key, made, hypers))(key)
    once, metrics = run(key, start, sum(lengths))
    middle, first = run(key, start, lengths[0])
    last, second = run(key, middle, lengths[1])
    equal(last, once)
    equal(jax.tree.map(lambda *x: jnp.concatenate(x), first, second), metrics)
    assert int(last.updates) == sum(lengths)
    before, after = (jax.tree.leaves(made.policy(state.learner)[1])[0] for state in (start, last))
    assert float(jnp.max(jnp.abs(after - before))) > 0


def test_an_update_that_is_not_finite_is_undone_and_the_lane_stands_still():
    key, made = jax.random.key(1), toy()
    healthy, _ = loop.train(key, made, loop.init(key, made, NEVER), NEVER, 2)
    state, metrics = loop.train(key, made, loop.init(key, made, NEVER), jnp.int32(2), 5)
    assert not bool(state.finite) and int(state.updates) == 5
    equal(state.learner, healthy.learner)
    np.testing.assert_array_equal(np.isnan(metrics["x"]), [False, False, True, True, True])
    np.testing.assert_array_equal(np.isnan(metrics["u"]), [False, False, True, True, True])
    # It doesn't come to life again in a later segment either.
    later, metrics = loop.train(key, made, state, NEVER, 2)
    equal(later.learner, state.learner)
    assert not bool(later.finite) and bool(jnp.all(jnp.isnan(metrics["x"])))


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_lane_that_fails_leaves_the_others_bit_for_bit_as_they_were(a2c, poison, lanes_of_a2c):
    start, run = lanes_of_a2c
    healthy = jnp.array([1e-3, 3e-3, 1e-2], jnp.float32)
    (good, good_metrics), (bad, bad_metrics) = (run(x) for x in (healthy, healthy.at[1].set(poison)))
    np.testing.assert_array_equal(good.finite, [True, True, True])
    np.testing.assert_array_equal(bad.finite, [True, False, True])
    pick = lambda tree: jax.tree.map(lambda x: x[jnp.array([0, 2])], tree)  # noqa: E731
    equal(pick(bad), pick(good))
    equal(pick(bad_metrics), pick(good_metrics))
    assert all(bool(jnp.all(jnp.isnan(x[1]))) for x in jax.tree.leaves(bad_metrics))
    # The failed lane is what it was before the update that failed: here its very first.
    equal(*(jax.tree.map(lambda x: x[1], tree) for tree in (bad.learner, start.learner)))


@pytest.fixture(scope="module")
def lanes_of_a2c(a2c):
    """States before training, and a function from learning rates [3] to what three updates make of them."""
    made, hypers = a2c
    keys = jax.random.split(jax.random.key(0), 3)
    stacked = jax.tree.map(lambda x: jnp.stack([x] * 3), hypers)

    @jax.jit
    def start(stacked):
        return jax.vmap(lambda key, h: loop.init(key, made, h))(keys, stacked)

    @jax.jit
    def segment(states, rates):
        changed = stacked._replace(optimizer={**stacked.optimizer, "learning_rate": rates})
        return jax.vmap(lambda k, s, h: loop.train(k, made, s, h, 3))(keys, states, changed)

    states = start(stacked)
    return states, lambda rates: segment(states, rates)


def test_all_finite_looks_at_every_number_and_only_at_numbers():
    assert bool(failures.all_finite({}))
    assert bool(failures.all_finite({"a": jnp.ones(2), "b": jnp.arange(3), "c": jnp.bool_(True)}))
    for wrong in (jnp.nan, jnp.inf, -jnp.inf):
        assert not bool(failures.all_finite({"a": jnp.ones(2), "b": [jnp.array([0.0, wrong])]}))


def test_a_failure_is_seen_in_the_parameters_that_act_where_others_are_kept():
    failing = toy()
    kept = failing._replace(policy=lambda state: (None, {}), behaviour=lambda state: (None, {"x": state["x"]}))
    key, at = jax.random.key(0), jnp.int32(2)
    state, metrics = loop.train(key, kept, loop.init(key, kept, at), at, 4)
    wanted, _ = loop.train(key, failing, loop.init(key, failing, at), at, 4)
    assert not bool(state.finite) and np.isnan(metrics["x"][2:]).all()
    equal(state, wanted)

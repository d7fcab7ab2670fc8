"""The algorithms of the gallery with critics of their own, against loops and closed forms in float64."""

import dataclasses

import gallery
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from experience import (
    ACTIONS,
    DISCOUNT,
    STATES,
    B,
    Rows,
    T,
    experience,
    plain,
    softmax,
    stream,
)

from pgjax import policies
from pgjax.config import Config
from pgjax.envs.registry import make
from pgjax.hyperparameters import bind, default_hypers
from pgjax.testing import check_learner

load = gallery.table.load
KEY = jax.random.key(0)
OFF = {"entropy_coef": 0.0, "normalize_advantage": False}


@pytest.fixture(scope="module")
def experienced():
    """(params, batch [T, B]) of a stream."""
    return stream(policies.make(make("TabularMDP-pgjax")))


def critic(name, experienced, more, **hypers):
    """(gradient, params, batch) of an algorithm's estimator on tables, in a stream."""
    _, batch = experienced
    g = np.random.default_rng(1)
    shapes = {"preference": (STATES, ACTIONS), "value": (STATES,), "more": (STATES, *more)}
    params = {key: g.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
    policy = policies.from_nnx(lambda rngs: Rows(more))
    estimator = bind(load(name).algorithm.estimator, **hypers)
    gradient, _ = jax.jit(estimator, static_argnums=1)(KEY, policy, params, batch)
    return gradient, params, batch


def made(name):
    """(the learner of an algorithm, small, its environment)."""
    entry, env = load(name), make("CartPole-v1")
    config = dataclasses.replace(entry.config, num_envs=4, num_steps=8, hidden=(8,), num_minibatches=2, num_epochs=1)
    return entry.learner(env, entry.policy(env, config), entry.algorithm, config), env


@pytest.mark.slow
@pytest.mark.parametrize("name", ["symlog", "dae", "retrace", "mean_actor_critic", "neurd"])
def test_its_learner_keeps_the_rules_of_learners(name):
    check_learner(made(name)[0], default_hypers(load(name).algorithm))


def said(name):
    """What the policy of an algorithm with a network of its own says of 6 steps, next_obs being obs backwards."""
    learner, env = made(name)
    policy, params = learner.policy(jax.jit(learner.init)(KEY, default_hypers(load(name).algorithm)))
    params = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(KEY, x.shape), params)
    obs = jax.random.normal(KEY, (6, *env.observation_space.shape))
    trajectory = experience(policies.make(make("TabularMDP-pgjax")))[1].trajectory
    rows = jax.tree.map(lambda x: x.reshape(-1)[:6], trajectory._replace(memory=(), action=trajectory.action % 2))
    return policy.evaluate(params, rows._replace(obs=obs, next_obs=obs[::-1]))


def test_symlog_fits_the_logarithm_and_the_value_is_its_inverse(experienced):
    found, params, batch = critic("symlog", experienced, (), value_coef=0.7, **OFF)
    expected = np.zeros(STATES)
    for t, b in np.ndindex(T, B):
        target, s = float(batch.target[t, b]), batch.trajectory.obs[t, b]
        log = np.log(1 + target) if target > 0 else -np.log(1 - target)
        expected[s] += 0.7 * (float(params["more"][s]) - log) / (T * B)
    np.testing.assert_allclose(found["more"], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found["value"], 0)
    now = said("symlog")
    f = np.float64(now.extra)
    assert f.min() < 0 < f.max()
    np.testing.assert_allclose(now.value, np.sign(f) * (np.exp(np.abs(f)) - 1), rtol=1e-4, atol=1e-6)


def test_dae_learns_advantages_from_backups(experienced):
    found, params, batch = critic("dae", experienced, (ACTIONS,), discount=DISCOUNT, value_coef=0.7, **OFF)
    tr, pi_old = plain(batch.trajectory), softmax(np.float64(batch.then.dist.logits))
    f, value, following = (np.float64(x) for x in (params["more"], params["value"], batch.then.next_value))
    more, values, lengths = np.zeros((STATES, ACTIONS)), np.zeros(STATES), set()
    for b in range(B):
        for t in range(T):
            total, along, k = 0.0, np.zeros((STATES, ACTIONS)), t
            while True:
                s, a, weight = tr.obs[k, b], tr.action[k, b], DISCOUNT ** (k - t)
                total += weight * (tr.reward[k, b] - (f[s, a] - pi_old[k, b] @ f[s]))
                along[s] -= weight * (np.eye(ACTIONS)[a] - pi_old[k, b])
                if tr.terminated[k, b] or tr.truncated[k, b] or k == T - 1:
                    total += 0.0 if tr.terminated[k, b] else weight * DISCOUNT * following[k, b]
                    break
                k += 1
            lengths.add(k - t + 1)
            error = total - value[tr.obs[t, b]]
            more += 0.7 * error * along / (T * B)
            values[tr.obs[t, b]] -= 0.7 * error / (T * B)
    assert len(lengths) > 3
    np.testing.assert_allclose(found["more"], more, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["value"], values, rtol=1e-4, atol=1e-5)
    policy = policies.from_nnx(lambda rngs: Rows((ACTIONS,)))
    now = policy.evaluate(params, batch.trajectory)
    advantage, _ = load("dae").algorithm.advantage(batch.trajectory, now)
    pi = softmax(np.float64(params["preference"]))
    centred = f - np.sum(pi * f, axis=-1, keepdims=True)
    np.testing.assert_allclose(advantage, centred[tr.obs, tr.action], rtol=1e-4, atol=1e-5)
    assert said("dae").extra.shape == (6, 2)


def of_actions(name):
    """(gradient to preferences, pi_old, pi, q_old of each step, batch) of an actor with a critic of action values."""
    policy = policies.make(make("TabularMDP-pgjax"), Config(critic="action_value"))
    theta, batch = experience(policies.make(make("TabularMDP-pgjax")))
    g = np.random.default_rng(2)
    old = {"preference": g.normal(size=(STATES, ACTIONS)), "value": g.normal(size=(STATES, ACTIONS))}
    old = jax.tree.map(jnp.float32, old)
    then = policy.evaluate(old, batch.trajectory)
    batch = batch._replace(then=then, target=then.value)
    params = {"preference": jnp.asarray(theta["preference"]), "value": 2 * old["value"]}
    estimator = bind(load(name).algorithm.estimator, value_coef=0.0, **OFF)
    gradient, _ = jax.jit(estimator, static_argnums=1)(KEY, policy, params, batch)
    return gradient["preference"], *(softmax(np.float64(x["preference"])) for x in (old, params)), old["value"], batch


@pytest.mark.parametrize("name", ["mean_actor_critic", "neurd"])
def test_all_actions_are_weighed_by_the_critic(name):
    found, pi_old, pi, q, batch = of_actions(name)
    expected, mask = np.zeros((STATES, ACTIONS)), np.asarray(batch.trajectory.mask)
    around = pi if name == "mean_actor_critic" else pi_old
    for t, b in zip(*np.nonzero(mask), strict=True):
        s = int(batch.trajectory.obs[t, b])
        for a in range(ACTIONS):
            worth = float(q[s, a]) - around[s] @ np.float64(q[s])
            expected[s, a] -= worth * (pi[s, a] if name == "mean_actor_critic" else 1.0) / mask.sum()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_retrace_sums_over_traces_that_are_cut_where_the_policies_differ(experienced):
    params, batch = experienced
    policy = policies.make(make("TabularMDP-pgjax"), Config(critic="action_value"))
    value = np.random.default_rng(2).normal(size=(STATES, ACTIONS)).astype(np.float32)
    params = {"preference": params["preference"], "value": value}
    now = policy.evaluate(params, batch.trajectory)
    found, target = load("retrace").algorithm.advantage(batch.trajectory, now, discount=DISCOUNT, retrace_lambda=0.8)
    tr, q, pi = plain(batch.trajectory), np.float64(value), softmax(np.float64(params["preference"]))
    cut = set()
    for t, b in np.ndindex(T, B):
        total, weight = q[tr.obs[t, b], tr.action[t, b]], 1.0
        own = total - pi[tr.obs[t, b]] @ q[tr.obs[t, b]]
        for k in range(t, T):
            s, a, ahead = tr.obs[k, b], tr.action[k, b], tr.next_obs[k, b]
            if k > t:
                ratio = pi[s, a] / np.exp(tr.log_prob[k, b])
                weight *= DISCOUNT * 0.8 * min(1.0, ratio)
                cut.add(ratio > 1)
            total += weight * (
                tr.reward[k, b] + DISCOUNT * (pi[ahead] @ q[ahead]) * (1 - tr.terminated[k, b]) - q[s, a]
            )
            if tr.terminated[k, b] or tr.truncated[k, b]:
                break
        np.testing.assert_allclose(target[t, b], total, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[t, b], own, rtol=1e-4, atol=1e-5)
    assert cut == {True, False}

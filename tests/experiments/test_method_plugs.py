"""The methods that are no losses: advantages, estimators, an optimiser and policies."""

import gallery
import jax
import jax.numpy as jnp
import numpy as np
import optax
import papers
import pytest
from experience import (
    DISCOUNT,
    STATES,
    B,
    Rows,
    T,
    episodes,
    experience,
    lambda_returns,
    plain,
    softmax,
    stream,
)

from pgjax import policies
from pgjax.envs.registry import make
from pgjax.hyperparameters import bind
from pgjax.testing import check_advantage, check_estimator

load = gallery.table.load
KEY = jax.random.key(0)
OFF = {"entropy_coef": 0.0, "normalize_advantage": False}


@pytest.fixture(scope="module")
def table():
    return policies.make(make("TabularMDP-pgjax"))


def test_upgo_goes_on_while_actions_do_better_than_expected(table):
    _, batch = stream(table)
    found, target = load("upgo")(batch.trajectory, batch.then, discount=DISCOUNT, critic_lambda=0.6)
    tr, value, following = plain(batch.trajectory), *(np.float64(x) for x in (batch.then.value, batch.then.next_value))
    on = np.zeros((T, B))
    for t in range(T - 1):
        q = tr.reward[t + 1] + DISCOUNT * np.where(tr.terminated[t + 1], 0.0, following[t + 1])
        on[t] = q >= value[t + 1]
    assert set(on[:-1][~(tr.terminated | tr.truncated)[:-1]]) == {0.0, 1.0}
    np.testing.assert_allclose(found, lambda_returns(tr, following, on) - value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(target, lambda_returns(tr, following, np.full((T, B), 0.6)), rtol=1e-4, atol=1e-5)
    check_advantage(load("upgo"))


def ppo(params, batch, value_coef, clip_eps=0.2):
    """The gradients of PPO's loss to preferences and to values, in float64 closed form."""
    steps, states, actions = episodes(params, batch)
    pushes = papers.clip_higher(steps, eps_low=clip_eps, eps_high=clip_eps)
    assert {push.branch for episode in pushes for push in episode} == papers.PPO
    actor = papers.gradient(pushes, states, actions, softmax(np.float64(params["preference"])), "step")[0]
    critic, total = np.zeros(STATES), sum(map(len, steps))
    for episode, where in zip(steps, states, strict=True):
        for step, s in zip(episode, where, strict=True):
            critic[s] += value_coef * (step.value - step.target) / total
    return actor, critic


def test_sam_is_the_gradient_at_the_worst_point_nearby(table):
    params, batch = experience(table)
    sam = bind(load("sam"), radius=0.3, value_coef=0.5, clip_eps=0.2, **OFF)
    found, _ = jax.jit(sam, static_argnums=1)(KEY, table, params, batch)
    there = {k: np.float64(x) for k, x in params.items()}
    actor, critic = ppo(there, batch, 0.5)
    norm = np.sqrt(np.sum(actor**2) + np.sum(critic**2))
    there = {"preference": there["preference"] + 0.3 * actor / norm, "value": there["value"] + 0.3 * critic / norm}
    expected = ppo(there, batch, 0.5)
    np.testing.assert_allclose(found["preference"], expected[0], rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(found["value"], expected[1], rtol=1e-4, atol=2e-6)
    assert np.abs(expected[0] - actor).max() > 0.01
    check_estimator(load("sam"))


@pytest.mark.parametrize("against", [True, False])
def test_pcgrad_takes_off_what_points_against_the_other(table, against):
    params, batch = experience(table)
    policy = policies.from_nnx(lambda rngs: Rows(shared=True))
    w = params["preference"]
    params = {"preference": w, "value": w[:, 0] - 2 * w[:, 1]}
    for target in (batch.target, 2 * params["value"][batch.trajectory.obs] - batch.target):
        batch = batch._replace(target=jnp.asarray(target))
        actor, error = ppo(params, batch, 0.7)
        critic = error[:, None] * np.array([1.0, -2.0, 0.0])
        dot = np.sum(actor * critic)
        if (dot < 0) == against:
            break
    assert (dot < 0) == against and abs(dot) > 1e-4
    a, c = actor, critic
    if against:
        a, c = actor - dot / np.sum(critic**2) * critic, critic - dot / np.sum(actor**2) * actor
    pcgrad = bind(load("pcgrad"), value_coef=0.7, clip_eps=0.2, **OFF)
    found, _ = jax.jit(pcgrad, static_argnums=1)(KEY, policy, {"preference": w}, batch)
    np.testing.assert_allclose(found["preference"], a + c, rtol=1e-4, atol=2e-6)
    check_estimator(load("pcgrad"))


def newton_schulz(x):
    x = x / np.sqrt(np.sum(x**2))
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


def test_muon_orthogonalises_the_momentum_of_matrices():
    g = np.random.default_rng(0)
    gradients = [{"kernel": g.normal(size=(3, 5)).astype(np.float32), "bias": np.ones(5, np.float32)} for _ in range(3)]
    transform = load("muon")(learning_rate=0.1, momentum=0.9)
    adam = optax.nadamw(0.1, weight_decay=0.0)
    params = jax.tree.map(jnp.zeros_like, gradients[0])
    state, other, momentum = transform.init(params), adam.init(params["bias"]), np.zeros((3, 5))
    for n, gradient in enumerate(gradients, start=1):
        updates, state = transform.update(gradient, state, params)
        bias, other = adam.update(gradient["bias"], other, params["bias"])
        now = np.float64(gradient["kernel"])
        momentum = 0.9 * momentum + 0.1 * now
        ahead = 0.9 * momentum / (1 - 0.9 ** (n + 1)) + 0.1 * now / (1 - 0.9**n)  # Nesterov
        expected = newton_schulz(ahead) * np.sqrt(5 / 3)
        np.testing.assert_allclose(updates["kernel"], -0.1 * expected, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(updates["bias"], bias, rtol=1e-3, atol=1e-6)
        values = np.linalg.svd(updates["kernel"], compute_uv=False) / (0.1 * np.sqrt(5 / 3))
        assert (values > 0.6).all() and (values < 1.3).all()

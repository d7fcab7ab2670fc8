"""Rows without a critic: advantage and gradient of their plugs together, against loops in float64 from the papers."""

import dataclasses

import jax
import numpy as np
import papers
import pytest
from experience import LENGTHS, B, T, episodes, experience, returns, same, spread

from pgjax import algorithms, policies
from pgjax.envs.registry import make
from pgjax.estimators import selected, surrogate
from pgjax.hyperparameters import bind, default_hypers, hyperparameters
from pgjax.losses import policy_gradient
from pgjax.policies import make as make_policy
from pgjax.running import running

SAMPLES = 4
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def policy():
    return make_policy(make("TabularMDP-pgjax"))


def plugs(name, policy, params, batch, **hypers):
    """(advantage, gradient, metrics) of a row's plugs, groups of SAMPLES."""
    row, now = algorithms.entry(name).algorithm, policy.evaluate(params, batch.trajectory)
    known = hyperparameters(row.advantage)
    plug = running(bind(row.advantage, **{k: v for k, v in ({"samples": SAMPLES} | hypers).items() if k in known}))
    output = plug.apply(plug.init(KEY, policy, params, batch), batch.trajectory, now)[1]
    batch = batch._replace(advantage=output[0], target=output[1], extra=output[2] if len(output) == 3 else ())
    estimator = bind(row.estimator, **{k: v for k, v in hypers.items() if k in hyperparameters(row.estimator)})
    return np.asarray(output[0]), *jax.jit(estimator, static_argnums=1)(KEY, policy, params, batch)


def graded(policy):
    """Experience whose returns are no mere 0 and 1."""
    params, batch = experience(policy)
    return params, batch._replace(
        trajectory=batch.trajectory._replace(reward=batch.trajectory.reward + 0.3 * batch.target)
    )


def relative(total, divide):
    """[B] returns minus their group's mean, over its deviation where asked."""
    groups = total.reshape(-1, SAMPLES)
    deviation = np.where(groups.std(axis=1) > 0, groups.std(axis=1), 1.0)[:, None] if divide else 1.0
    return ((groups - groups.mean(axis=1, keepdims=True)) / deviation).reshape(-1)


def test_dr_grpo_divides_by_no_spread_and_no_length(policy):
    params, batch = graded(policy)
    expected = relative(returns(batch), divide=False)
    found, gradient, _ = plugs("dr_grpo", policy, params, batch, clip_eps=0.3)
    np.testing.assert_allclose(found, spread(expected), rtol=1e-5, atol=1e-6)
    steps, states, actions = episodes(params, batch, spread(expected))
    pushes = papers.clip_higher(steps, eps_low=0.3, eps_high=0.3)
    assert {push.branch for episode in pushes for push in episode} == papers.PPO
    same(gradient, pushes, states, actions, params, "episode")


def test_reinforce_pp_penalises_each_step_and_normalises_over_the_batch(policy):
    params, batch = experience(policy)
    tr, beta = batch.trajectory, 0.2
    expected, counted = np.zeros((T, B)), []
    for b, n in enumerate(LENGTHS):
        for t in range(n):
            kl = np.float64(tr.log_prob[t:n, b]) - np.float64(tr.reference[t:n, b])
            expected[t, b] = np.float64(tr.reward[:n, b]).sum() - beta * kl.sum()
            counted.append(expected[t, b])
    expected = (expected - np.mean(counted)) / np.std(counted)
    found, gradient, _ = plugs("reinforce_pp", policy, params, batch, reference_penalty=beta, clip_eps=0.3)
    counts = np.asarray(tr.mask) > 0
    np.testing.assert_allclose(found[counts], expected[counts], rtol=1e-4, atol=1e-5)
    steps, states, actions = episodes(params, batch, expected)
    pushes = papers.clip_higher(steps, eps_low=0.3, eps_high=0.3)
    assert {push.branch for episode in pushes for push in episode} == papers.PPO
    same(gradient, pushes, states, actions, params, "step")


def test_dapo_is_a_mean_over_the_steps_of_groups_whose_returns_differ(policy):
    params, batch = experience(policy)
    reward = batch.trajectory.reward.at[:, 4:8].set(0.0).at[7, 4].set(0.0)  # the second group fails as one
    reward = reward.at[LENGTHS[0] - 1, 0].set(0.0).at[LENGTHS[1] - 1, 1].set(1.0).at[LENGTHS[2] - 1, 2].set(0.5)
    reward = reward.at[LENGTHS[3] - 1, 3].set(0.5)  # returns 0, 1, 1/2, 1/2: two are their group's mean, and count
    batch = batch._replace(trajectory=batch.trajectory._replace(reward=reward))
    total = returns(batch)
    kept = np.repeat(total.reshape(-1, SAMPLES).std(axis=1) > 0, SAMPLES)
    assert kept.tolist() == [True] * 4 + [False] * 4 + [True] * 4
    expected = relative(total, divide=True)
    found, gradient, metrics = plugs("dapo", policy, params, batch, clip_eps=0.2, clip_high=0.4)
    np.testing.assert_allclose(found, spread(expected), rtol=1e-5, atol=1e-6)
    chosen = [
        [x for x, keep in zip(part, kept, strict=True) if keep] for part in episodes(params, batch, spread(expected))
    ]
    pushes = papers.clip_higher(chosen[0], eps_low=0.2, eps_high=0.4)
    assert {push.branch for episode in pushes for push in episode} == papers.PPO
    same(gradient, pushes, *chosen[1:], params, "step")
    np.testing.assert_allclose(metrics["selected"], LENGTHS[kept].sum() / LENGTHS.sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "oracle", "hypers", "given", "reduce"),
    [
        ("cispo", papers.cispo, {"eps_low": np.inf, "eps_high": 0.5}, {"clip_high": 0.5}, "step"),
        (
            "gspo",
            papers.gspo,
            {"eps_low": 0.1, "eps_high": 0.15},
            {"clip_eps": 0.1, "clip_high": 0.15},
            "episode_mean",
        ),
    ],
)
def test_cispo_and_gspo_have_the_advantage_of_grpo(policy, name, oracle, hypers, given, reduce):
    params, batch = graded(policy)
    expected = relative(returns(batch), divide=True)
    found, gradient, _ = plugs(name, policy, params, batch, **given)
    np.testing.assert_allclose(found, spread(expected), rtol=1e-4, atol=1e-5)
    steps, states, actions = episodes(params, batch, spread(expected))
    same(gradient, oracle(steps, **hypers), states, actions, params, reduce)


def test_opos_gradient_is_reinforce_with_its_baseline(policy):
    params, batch = graded(policy)
    total, expected = returns(batch), np.zeros(B)
    for b in range(B):
        group = range(b - b % SAMPLES, b - b % SAMPLES + SAMPLES)
        expected[b] = total[b] - sum(LENGTHS[i] * total[i] for i in group) / sum(LENGTHS[i] for i in group)
    found, gradient, _ = plugs("opo", policy, params, batch)
    np.testing.assert_allclose(found, spread(expected), rtol=1e-5, atol=1e-6)
    steps, states, actions = episodes(params, batch, spread(expected))
    pushes = [[papers.Push("", step.advantage) for step in episode] for episode in steps]
    same(gradient, pushes, states, actions, params, "episode")


def test_published_bounds_are_the_defaults():
    found = {name: hyperparameters(algorithms.entry(name).algorithm.estimator) for name in ("dapo", "gspo", "cispo")}
    assert (found["dapo"]["clip_eps"], found["dapo"]["clip_high"]) == (0.2, 0.28)
    assert (found["gspo"]["clip_eps"], found["gspo"]["clip_high"]) == (3e-4, 4e-4)
    assert found["cispo"]["clip_low"] == np.inf


@pytest.mark.parametrize("name", ["dapo", "remax"])
def test_they_train_on_control_tasks_too(name):
    row, env = algorithms.entry(name), make("CartPole-v1", max_steps_in_episode=12, theta_threshold_radians=0.1)
    config = dataclasses.replace(row.config, num_envs=8, num_minibatches=2, hidden=(4,))
    algorithm = row.algorithm
    if name == "dapo":
        algorithm = algorithm._replace(advantage=bind(algorithm.advantage, samples=4))
    built, hypers = row.learner(env, policies.make(env, config), algorithm, config), default_hypers(algorithm)

    @jax.jit
    def run(key):
        before = built.init(key, hypers)
        return before.params, *built.step(key, before, hypers)

    before, after, metrics = run(KEY)
    assert all(np.isfinite(x) for x in metrics.values()) and metrics["grad_norm"] > 0
    for a, b in zip(*map(jax.tree.leaves, (before["actor_head"], after.params["actor_head"])), strict=True):
        assert np.abs(b - a).max() > 0


def test_an_advantage_that_selects_nothing_is_refused(policy):
    params, batch = experience(policy)
    with pytest.raises(ValueError, match=r"selected: the advantage selects no steps, its extra is \(\); give one that"):
        selected(surrogate(policy_gradient))(KEY, policy, params, batch)

"""The methods that remember: the law of each state, and the gradients and rewards that it makes, in float64."""

import math

import gallery
import jax
import jax.numpy as jnp
import numpy as np
import papers
import pytest
from experience import DISCOUNT, LENGTHS, B, T, episodes, experience, same, softmax, stream

from pgjax import policies
from pgjax.algorithms.replacement import with_plugs
from pgjax.algorithms.roster import ROSTER
from pgjax.envs.registry import make
from pgjax.hyperparameters import bind
from pgjax.testing import check_advantage, check_estimator

load, KEY = gallery.table.load, jax.random.key(0)
OFF = {"value_coef": 0.0, "entropy_coef": 0.0, "normalize_advantage": False}


@pytest.fixture(scope="module")
def policy():
    return policies.make(make("TabularMDP-pgjax"))


def counted(x):
    """The numbers of the steps that count, in float64."""
    return np.float64(x)[np.arange(T)[:, None] < LENGTHS]


def test_the_entropys_weight_grows_below_the_target(policy):
    params, batch = experience(policy)
    now = policy.evaluate(params, batch.trajectory)
    entropy = np.mean([-s.pi @ np.log(s.pi) for episode in episodes(params, batch)[0] for s in episode])
    for target in (entropy - 0.3, entropy + 0.3):
        plug = bind(load("entropy_target"), target_entropy=target, alpha_rate=0.5)
        state, _ = plug.apply(plug.init(), now, batch)
        np.testing.assert_allclose(state, math.log(0.01) - 0.5 * (entropy - target), rtol=1e-5)
        np.testing.assert_allclose(plug.apply(state, now, batch)[1][1]["alpha"], math.exp(state), rtol=1e-5)


def test_the_step_of_mdpo_falls_once_for_each_update(policy):
    params, batch = experience(policy)
    row = with_plugs(ROSTER["ppo"], loss=load("mdpo_annealed"))
    plug = bind(row.algorithm.estimator, step_size=2.0, anneal_updates=4.0, **OFF)
    state = plug.init(KEY, policy, params, batch)
    for k in range(6):
        for _ in range(2):  # gradient steps
            state, (_, metrics) = plug.apply(state, KEY, policy, params, batch)
            np.testing.assert_allclose(metrics["step"], 2 * max(1 - k / 4, 0.01), rtol=1e-6)
        state = plug.after(state, metrics)


def test_ppo_ewma_clips_around_the_mean_of_the_iterates(policy):
    params, batch = experience(policy)
    plug = bind(load("ppo_ewma"), decay=0.6, clip_eps=0.2, **OFF)
    g, decay, weight, total = np.random.default_rng(0), 0.6, 0.0, 0.0
    state, apply = plug.init(KEY, policy, params, batch), jax.jit(plug.apply, static_argnums=2)
    for _ in range(3):
        now = {k: jnp.float32(x + 0.4 * g.normal(size=x.shape)) for k, x in params.items()}
        total, weight = decay * total + np.float64(now["preference"]), decay * weight + 1
        state, (found, _) = apply(state, KEY, policy, now, batch)
    mean = total / weight
    np.testing.assert_allclose(state[0]["preference"], mean, rtol=1e-5, atol=1e-6)
    then = policy.evaluate({"preference": jnp.float32(mean), "value": params["value"]}, batch.trajectory)
    steps, *where = episodes(now, batch._replace(then=then))
    pushes = papers.decoupled_ppo(steps, clip_eps=0.2)
    assert {push.branch for episode in pushes for push in episode} == papers.PPO
    same(found, pushes, *where, now, "step")
    check_estimator(load("ppo_ewma"))


def test_self_imitation_remembers_the_best_episodes_of_all_batches(policy):
    params, batch = experience(policy)
    plug = bind(load("self_imitation"), coef=0.7, beta=0.3, **OFF)
    best, known = plug.init(KEY, policy, params, jax.tree.map(jnp.zeros_like, batch)), []
    g, apply = np.random.default_rng(0), jax.jit(plug.apply, static_argnums=2)
    for _ in range(3):
        reward = jnp.where(batch.trajectory.mask > 0, jnp.float32(g.normal(size=(T, B))), jnp.nan)
        target = jnp.float32(g.normal(size=(T, B)))
        batch = batch._replace(trajectory=batch.trajectory._replace(reward=reward), target=target)
        best, (found, _) = apply(best, KEY, policy, params, batch)
        steps, *where = episodes(params, batch)
        total = np.nansum(np.float64(reward), axis=0)
        pushes = papers.self_imitation(steps, beta=0.3)
        known += list(zip(total, pushes, *where, strict=True))
    known = sorted(known, key=lambda x: -x[0])[:B]
    np.testing.assert_allclose(jnp.nansum(best.trajectory.reward, axis=0), [x[0] for x in known], rtol=1e-5)
    assert {push.branch for x in known for push in x[1]} == {"better", "worse"}
    pi = softmax(np.float64(params["preference"]))
    imitation = papers.gradient(*[[x[i] for x in known] for i in (1, 2, 3)], pi, "episode")
    reinforce = [[papers.Push("", step.advantage) for step in episode] for episode in steps]
    plain = papers.gradient(reinforce, *where, pi, "episode")
    for key, first, second in zip(("preference", "value"), plain, imitation, strict=True):
        np.testing.assert_allclose(found[key], first + 0.7 * second, rtol=1e-4, atol=1e-5)
        assert np.abs(second).max() > 0.01
    check_estimator(load("self_imitation"))


def test_the_optimal_baseline_weighs_returns_by_squared_scores(policy):
    params, batch = experience(policy)
    plug = bind(load("optimal_baseline"), discount=DISCOUNT, decay=0.8)
    state, above, below = plug.init(), 0.0, 0.0
    for scale in (1.0, 3.0):
        trajectory = batch.trajectory._replace(reward=batch.trajectory.reward + scale * batch.target)
        now = policy.evaluate(params, trajectory)
        state, (found, _) = plug.apply(state, trajectory, now)
        g, w = np.zeros((T, B)), np.zeros((T, B))
        for b, n in enumerate(LENGTHS):
            for t in reversed(range(n)):
                g[t, b] = float(trajectory.reward[t, b]) + (DISCOUNT * g[t + 1, b] if t + 1 < n else 0.0)
                pi = softmax(np.float64(params["preference"])[trajectory.obs[t, b]])
                w[t, b] = np.sum((np.eye(3)[trajectory.action[t, b]] - pi) ** 2)
        baseline = above / below if below else 0.0
        np.testing.assert_allclose(counted(found), counted(g - baseline), rtol=1e-4, atol=1e-5)
        above, below = 0.8 * above + np.sum(w * g), 0.8 * below + np.sum(w)
    assert abs(baseline) > 0.01
    check_advantage(load("optimal_baseline"))


def test_the_percentile_scale_is_a_mean_of_ranges_and_never_enlarges(policy):
    _, batch = stream(policy)
    plug = bind(load("percentile_scale"), decay=0.5, discount=0.0)
    state, scale, seen = plug.init(), 0.0, []
    for size in (0.5, 8.0):
        trajectory = batch.trajectory._replace(reward=size * batch.trajectory.reward)
        state, (found, target) = plug.apply(state, trajectory, batch.then)
        low, high = np.percentile(np.float64(target), [5, 95])
        scale = 0.5 * scale + 0.5 * (high - low)
        expected = np.float64(trajectory.reward - batch.then.value) / max(1.0, scale)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        seen.append(scale > 1)
    assert seen == [False, True]
    check_advantage(load("percentile_scale"))


def shaped(name, policy, batches=3, width=3, **hypers):
    """Of each batch: (state before, state after, rewards [T, B], trajectory); observations [width]."""
    _, batch = experience(policy)
    plug, g = bind(load(name), discount=0.0, gae_lambda=0.0, **hypers), np.random.default_rng(0)
    wide = lambda: jnp.float32(2 * g.normal(size=(T, B, width)) + 1)  # noqa: E731
    batch = batch._replace(trajectory=batch.trajectory._replace(next_obs=wide()))
    state = plug.init(KEY, policy, {}, jax.tree.map(jnp.zeros_like, batch))
    for _ in range(batches):
        hidden = batch.trajectory.mask[..., None] > 0
        trajectory = batch.trajectory._replace(next_obs=jnp.where(hidden, wide(), jnp.nan))
        following, (advantage, _) = jax.jit(plug.apply)(state, trajectory, batch.then)
        yield state[0], following[0], advantage + batch.then.value, trajectory
        state = following


def test_rnd_rewards_what_the_predictor_cannot_foretell_yet(policy):
    seen, errors, learned, moments = [], [], None, [(0.0, 0.0)] * 2
    for n, (before, after, found, trajectory) in enumerate(shaped("rnd", policy, bonus=0.3), start=1):
        obs = counted(trajectory.next_obs)  # [N, 3]
        seen.append(obs)
        x = np.clip((obs - np.concatenate(seen).mean(axis=0)) / np.concatenate(seen).std(axis=0), -5, 5)
        f, g = (tuple(map(np.float64, weights)) for weights in before[:2])
        f = f if n == 1 else learned
        hidden = np.tanh(x @ f[0])
        away = hidden @ f[1] - np.tanh(x @ g[0]) @ g[1]  # [N, 16]
        errors.append(np.sum(away**2, axis=1))
        expected = counted(trajectory.reward) + 0.3 * errors[-1] / np.concatenate(errors).std()
        np.testing.assert_allclose(counted(found), expected, rtol=1e-3, atol=1e-4)
        back = (2 * away / len(x)) @ f[1].T * (1 - hidden**2)
        gradient = (x.T @ back, hidden.T @ (2 * away / len(x)))
        moments = [(0.9 * m + 0.1 * d, 0.999 * v + 0.001 * d**2) for (m, v), d in zip(moments, gradient, strict=True)]
        steps = [m / (1 - 0.9**n) / (np.sqrt(v / (1 - 0.999**n)) + 1e-8) for m, v in moments]
        learned = tuple(w - 1e-3 * step for w, step in zip(f, steps, strict=True))
        for w, expected in zip(after[0], learned, strict=True):
            np.testing.assert_allclose(w, expected, rtol=1e-3, atol=2e-5)
        for w, expected in zip(after[1], g, strict=True):
            np.testing.assert_array_equal(w, np.float32(expected))
    check_advantage(load("rnd"))


def test_the_lagrangian_multiplier_grows_above_the_limit_and_is_never_negative(policy):
    for limit, zero in ((0.1, False), (0.99, True)):
        multiplier = 0.0
        for _, after, found, trajectory in shaped("ppo_lagrangian", policy, limit=limit, multiplier_rate=0.4):
            cost = np.abs(counted(trajectory.next_obs)[:, 0]) > 0.5
            multiplier = max(0.0, multiplier + 0.4 * (cost.mean() - limit))
            np.testing.assert_allclose(after, multiplier, rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(counted(found), counted(trajectory.reward) - multiplier * cost, atol=1e-5)
            assert (multiplier == 0) == zero and 0 < cost.mean() < 1

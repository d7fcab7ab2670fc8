"""Groups of episodes that began alike: float64 loops, identities, and learners that begin them so."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import advantages, algorithms, policies, rollout
from pgjax import envs as envs_module
from pgjax.algorithms.on_policy import make_learner
from pgjax.config import Config
from pgjax.declarations import Role
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind, default_hypers
from pgjax.optimizers import adam
from pgjax.types import Algorithm, Evaluation, Trajectory

T, B, DISCOUNT = 5, 12, 0.9
OF_GROUPS = [advantages.leave_one_out, advantages.group_relative, advantages.dynamic_sampling, advantages.opo]


def episodes(reward, lengths):
    """Whole episodes [T, B] of these rewards, with other numbers behind their ends."""
    steps, envs = reward.shape
    mask = np.arange(steps)[:, None] < np.asarray(lengths)[None]
    no, index = jnp.zeros(reward.shape, bool), jnp.zeros(reward.shape, jnp.int32)
    trajectory = Trajectory(
        obs=index,
        action=index,
        log_prob=jnp.zeros(reward.shape),
        reward=jnp.asarray(np.where(mask, reward, 99.0), jnp.float32),
        terminated=no,
        truncated=no,
        next_obs=index,
        mask=jnp.asarray(mask, jnp.float32),
        time=jnp.broadcast_to(jnp.arange(steps)[:, None], reward.shape),
        memory=(),
    )
    value = jnp.asarray(np.random.default_rng(9).normal(size=reward.shape), jnp.float32)
    return trajectory, Evaluation(None, value, value, value, value)


@pytest.fixture(scope="module")
def data():
    g = np.random.default_rng(0)
    reward, lengths = g.normal(size=(T, B)).astype(np.float32), g.integers(1, T + 1, size=B)
    totals = [sum(DISCOUNT**t * float(reward[t, b]) for t in range(lengths[b])) for b in range(B)]
    return *episodes(reward, lengths), totals


@pytest.mark.parametrize("samples", [2, 3, 4, 6, 12])
def test_leave_one_out_is_the_return_minus_the_mean_of_the_others(data, samples):
    trajectory, now, totals = data
    advantage, target = advantages.leave_one_out(trajectory, now, samples=samples, discount=DISCOUNT)
    for b in range(B):
        first = b - b % samples
        others = [totals[i] for i in range(first, first + samples) if i != b]
        np.testing.assert_allclose(advantage[:, b], totals[b] - sum(others) / len(others), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(target, now.value)


@pytest.mark.parametrize("samples", [2, 3, 4, 6, 12])
@pytest.mark.parametrize("divide", [False, True])
def test_group_relative_is_the_return_in_standard_deviations_of_its_group(data, samples, divide):
    trajectory, now, totals = data
    advantage, target = advantages.group_relative(trajectory, now, samples=samples, discount=DISCOUNT, divide=divide)
    for first in range(0, B, samples):
        group = totals[first : first + samples]
        mean = sum(group) / samples
        deviation = (sum((x - mean) ** 2 for x in group) / samples) ** 0.5
        for b in range(first, first + samples):
            expected = (totals[b] - mean) / (deviation if divide else 1.0)
            np.testing.assert_allclose(advantage[:, b], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(target, now.value)


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_without_division_group_relative_is_a_share_of_leave_one_out(data, samples):
    trajectory, now, _ = data
    relative, _ = advantages.group_relative(trajectory, now, samples=samples, divide=False)
    others, _ = advantages.leave_one_out(trajectory, now, samples=samples)
    np.testing.assert_allclose(relative, (samples - 1) / samples * others, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("samples", [2, 3, 4, 6, 12])
def test_opo_is_the_return_minus_the_mean_of_its_group_weighed_by_length(data, samples):
    """And 1 minus the episode's share of the steps, times the return minus such a mean of the others: its bias."""
    trajectory, now, totals = data
    lengths = np.asarray(trajectory.mask, np.float64).sum(axis=0)
    advantage, target = advantages.opo(trajectory, now, samples=samples, discount=DISCOUNT)
    for b in range(B):
        group = range(b - b % samples, b - b % samples + samples)
        steps = sum(lengths[i] for i in group)
        expected = totals[b] - sum(lengths[i] * totals[i] for i in group) / steps
        np.testing.assert_allclose(advantage[:, b], expected, rtol=1e-4, atol=1e-5)
        others = [i for i in group if i != b]
        mean = sum(lengths[i] * totals[i] for i in others) / sum(lengths[i] for i in others)
        np.testing.assert_allclose(expected, (1 - lengths[b] / steps) * (totals[b] - mean), rtol=1e-9)
    np.testing.assert_array_equal(target, now.value)


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_of_equal_lengths_opo_is_a_share_of_leave_one_out(samples):
    whole = episodes(np.random.default_rng(1).normal(size=(T, B)).astype(np.float32), [T] * B)
    others, _ = advantages.leave_one_out(*whole, samples=samples)
    found, _ = advantages.opo(*whole, samples=samples)
    np.testing.assert_allclose(found, (samples - 1) / samples * others, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("divide", [False, True])
def test_dynamic_sampling_is_group_relative_and_says_which_groups_differ(data, divide):
    trajectory, now, _ = data
    reward = trajectory.reward.at[:, 4:8].set(0.5 / trajectory.mask[:, 4:8].sum(axis=0))  # the second of three groups
    trajectory = trajectory._replace(reward=jnp.where(trajectory.mask > 0, reward, jnp.nan))
    found = advantages.dynamic_sampling(trajectory, now, samples=4, divide=divide)
    for mine, plain in zip(found, advantages.group_relative(trajectory, now, samples=4, divide=divide), strict=False):
        np.testing.assert_array_equal(mine, plain)
    unlike = np.repeat([True, False, True], 4)
    np.testing.assert_array_equal(found[2], np.broadcast_to(unlike, (T, B)))
    broken = advantages.dynamic_sampling(trajectory._replace(reward=jnp.nan * reward), now, samples=4, divide=divide)
    assert np.asarray(broken[2]).all() and np.isnan(broken[0]).all()  # a failure isn't left out


@pytest.mark.parametrize("plug", OF_GROUPS)
@pytest.mark.parametrize("number", [0.0, 1.0, 0.1, -1234.567])
@pytest.mark.parametrize("samples", [2, 3, 6])
def test_a_group_of_equal_returns_teaches_nothing(plug, number, samples):
    """Nor does rounding: divided by itself, an error in the mean would be an advantage of 1."""
    advantage = plug(*episodes(np.full((1, 6), number), [1] * 6), samples=samples)[0]
    np.testing.assert_array_equal(advantage, 0.0)


@pytest.mark.parametrize("plug", OF_GROUPS)
@pytest.mark.parametrize("steps", [6, 40, 1000])
def test_nor_do_the_same_rewards_in_another_order(plug, steps):
    g = np.random.default_rng(steps)
    rewards = np.where(np.arange(steps) % 3, g.normal(3.0, 1.0, size=steps), 0.1).astype(np.float32)
    reward = np.stack([g.permutation(rewards) for _ in range(16)], axis=1)
    assert len(set(np.cumsum(reward, axis=0)[-1])) > 1
    np.testing.assert_array_equal(plug(*episodes(reward, [steps] * 16), samples=8)[0], 0.0)


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1e-12), (0.0, 1e-30), (1e-3, 1e-4), (1e3, 0.02)])
def test_small_spreads_that_are_real_are_divided_by(mean, scale):
    reward = (mean + scale * np.random.default_rng(0).normal(size=(1, 16))).astype(np.float32)
    advantage = np.asarray(advantages.group_relative(*episodes(reward, [1] * 16), samples=8)[0], np.float64)
    group = reward.astype(np.float64).reshape(2, 8)
    expected = (group - group.mean(1, keepdims=True)) / group.std(1, keepdims=True)
    np.testing.assert_allclose(advantage.reshape(2, 8), expected, atol=1e-2)


def test_divided_by_the_deviation_the_mean_gradient_is_that_of_p_times_the_factor_stated():
    """Exactly, over all groups of K returns that are 1 with probability p: E[A_1 d log p(r_1) / dp]."""
    samples, p = 4, 0.3
    rows = np.array(np.meshgrid(*[[0.0, 1.0]] * samples)).reshape(samples, -1)  # [K, 16]
    chance = np.prod(np.where(rows > 0, p, 1 - p), axis=0)
    advantage, _ = advantages.group_relative(*episodes(rows.T.reshape(1, -1), [1] * rows.size), samples=samples)
    score = np.where(rows > 0, 1 / p, -1 / (1 - p))
    gradient = np.sum(chance * np.asarray(advantage).reshape(-1, samples).T * score) / samples
    successes = rows.mean(axis=0)
    expected = np.sum(chance * np.sqrt(successes * (1 - successes))) / (p * (1 - p))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4)
    others, _ = advantages.leave_one_out(*episodes(rows.T.reshape(1, -1), [1] * rows.size), samples=samples)
    unbiased = np.sum(chance * np.asarray(others).reshape(-1, samples).T * score) / samples
    np.testing.assert_allclose(unbiased, 1.0, rtol=1e-4)


@pytest.mark.parametrize("samples", [1, 2, 4])
def test_neighbours_begin_alike_and_go_on_as_they_will(samples):
    env = envs_module.make("CartPole-v1", max_steps_in_episode=6)
    policy = policies.make(env, Config(hidden=(4,)))

    @jax.jit
    def run(key):
        return rollout.episodes(key, env, policy, policy.init(key), 8, samples=samples)[0]

    seen = run(jax.random.key(0))
    starts = np.asarray(seen.obs)[0].reshape(8 // samples, samples, 4)
    np.testing.assert_array_equal(starts, np.broadcast_to(starts[:, :1], starts.shape))
    assert len(np.unique(starts, axis=0)) == 8 // samples
    if samples > 1:
        assert len(np.unique(np.asarray(seen.action), axis=1).T) > 8 // samples


def off(trajectory, now, *, samples: Annotated[int, Role.SAMPLES] = 4, discount: float = 1.0):
    """How far an episode's first observation is from the first of its group."""
    first = jnp.sum(trajectory.obs[0], axis=-1).reshape(-1, samples)
    away = jnp.abs(first - first[:, :1]).reshape(1, -1)
    return jnp.broadcast_to(away, trajectory.mask.shape), now.value


def told(now, batch):
    return -now.log_prob * batch.advantage, {"off": batch.advantage}


def short():
    return envs_module.make("CartPole-v1", max_steps_in_episode=12, theta_threshold_radians=0.1)


@pytest.mark.parametrize(("samples", "alike"), [(4, True), (2, True), (1, False)])
def test_a_learner_begins_as_many_alike_as_its_advantage_asks_for(samples, alike):
    """Looked at in groups of 4: those that begin 2 by 2 are not."""
    plug = off if samples > 1 else lambda trajectory, now, *, discount=1.0: off(trajectory, now)
    config = Config(num_envs=8, num_steps=0, rollout="episodes", hidden=(4,))
    algorithm = Algorithm(bind(plug, **({"samples": samples} if samples > 1 else {})), surrogate(told), adam)
    built = make_learner(short(), policies.make(short(), config), algorithm, config)
    hypers = default_hypers(algorithm)

    @jax.jit
    def run(key):
        return built.step(key, built.init(key, hypers), hypers)[1]["off"]

    assert (float(run(jax.random.key(0))) == 0) is alike


@pytest.mark.parametrize("name", ["rloo", "grpo"])
def test_they_train_on_control_tasks_too(name):
    row = algorithms.entry(name)
    config = dataclasses.replace(row.config, num_envs=8, num_minibatches=2, hidden=(4,))
    algorithm = row.algorithm._replace(advantage=bind(row.algorithm.advantage, samples=4))
    built = row.learner(short(), policies.make(short(), config), algorithm, config)
    hypers = default_hypers(algorithm)

    @jax.jit
    def run(key):
        before = built.init(key, hypers)
        return before.params, *built.step(key, before, hypers)

    before, after, metrics = run(jax.random.key(0))
    assert all(np.isfinite(x) for x in metrics.values()) and abs(metrics["kl_to_reference"]) < 1e-5
    assert metrics["env_steps"] < 8 * 12
    for a, b in zip(*map(jax.tree.leaves, (before["actor_head"], after.params["actor_head"])), strict=True):
        assert np.isfinite(b).all() and np.abs(b - a).max() > 0
    jax.tree.map(np.testing.assert_array_equal, before["critic_head"], after.params["critic_head"])


def test_they_are_among_the_advantages():
    for plug in OF_GROUPS:
        assert advantages.ADVANTAGES[plug.__name__] is plug


class TestMistakes:
    @pytest.mark.parametrize("plug", OF_GROUPS)
    @pytest.mark.parametrize("samples", [0, 1, 5])
    def test_groups_that_do_not_come_out_even(self, data, plug, samples):
        message = f"{plug.__name__}: samples must be 2 or more and divide num_envs=12, got {samples}"
        with pytest.raises(ValueError, match=message):
            plug(*data[:2], samples=samples)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"num_envs": 12, "rollout": "episodes"}, "samples must be a whole number that divides num_envs=12, got 8"),
            (
                {"num_envs": 8, "num_steps": 4},
                "samples=8 needs rollout='episodes': a group of episodes must start alike",
            ),
        ],
    )
    def test_learners(self, options, message):
        config = Config(**{"num_steps": 0, "hidden": (4,), **options})
        algorithm = Algorithm(advantages.leave_one_out, surrogate(told), adam)
        with pytest.raises(ValueError, match=message):
            make_learner(short(), policies.make(short(), config), algorithm, config)

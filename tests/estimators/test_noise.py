"""The noise of a gradient against exact moments, against the paper's formulas, and in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgjax
from pgjax import losses, oracle
from pgjax.advantages import monte_carlo
from pgjax.envs.registry import make
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind
from pgjax.oracle import enumeration
from pgjax.policies import make as make_policy
from pgjax.rollout import episodes, row
from pgjax.testing import check_estimator
from pgjax.types import Batch, Step

KEY, DISCOUNT = jax.random.key(0), 0.9
BATCHES, EPISODES = 3000, 12


def world():
    """A tabular world whose episodes have 1 to 3 steps, its policy and parameters."""
    g = np.random.default_rng(7)
    env = make(
        "TabularMDP-pgjax",
        transition=g.dirichlet(np.ones(3), size=(3, 2)),
        reward=g.normal(size=(3, 2)),
        start=np.array([0.7, 0.3, 0.0]),
        terminal=np.array([False, False, True]),
        horizon=3,
    )
    policy = make_policy(env)
    params = {"preference": jnp.asarray(g.normal(size=(3, 2)), jnp.float32), "value": jnp.zeros(3)}
    return env, policy, params


def exact(env, policy, params):
    """|grad J|^2 and the trace of the covariance of one episode's REINFORCE, by every trajectory, in float64."""
    mdp = oracle.from_env(env, DISCOUNT)
    pi = oracle.probabilities(policy, params, 3)
    paths, probability = enumeration.trajectories(mdp, pi)
    reward, mask = np.float64(paths.reward), np.float64(paths.mask)
    power = DISCOUNT ** np.arange(len(reward))[:, None]
    to_go = np.cumsum((power * reward * mask)[::-1], axis=0)[::-1]  # discounted from the start
    scores = np.zeros((reward.shape[1], 3, 2))
    for t, n in np.argwhere(mask > 0):
        s, a = paths.obs[t, n], paths.action[t, n]
        scores[n, s] += to_go[t, n] * (np.eye(2)[a] - pi[s])
    mean = np.tensordot(probability, scores, 1)
    gradient = oracle.gradient(mdp, policy, params)[1]["preference"]
    np.testing.assert_allclose(mean, gradient, atol=1e-6)
    return np.sum(gradient**2), probability @ np.sum((scores - mean) ** 2, axis=(1, 2))


@pytest.fixture(scope="module")
def sampled():
    """Metrics of many batches of whole episodes, [BATCHES] each."""
    env, policy, params = world()
    advantage = bind(monte_carlo, discount=DISCOUNT, gamma_t=True, baseline="none")
    estimator = surrogate(losses.policy_gradient, reduce="episode")

    def one(key):
        trajectory, _ = episodes(key, env, policy, params, EPISODES)
        now = policy.evaluate(params, trajectory)
        _, (weight, target) = advantage.apply(advantage.init(), trajectory, now)
        return estimator(key, policy, params, Batch(trajectory, weight, target, now.value), noise=True)[1]

    found = jax.jit(jax.vmap(one))(jax.random.split(KEY, BATCHES))
    return {name: np.float64(found[name]) for name in ("grad_square", "grad_trace")}


def z(sample, expected):
    return (sample.mean() - expected) / (sample.std(ddof=1) / np.sqrt(len(sample)))


def test_numerator_and_denominator_are_unbiased(sampled):
    square, trace = exact(*world())
    assert abs(z(sampled["grad_square"], square)) < 4 and abs(z(sampled["grad_trace"], trace)) < 4


def test_the_test_above_sees_a_wrong_factor(sampled):
    """K / (K - 1) left out, with K = 12; and the noise left in the square."""
    square, trace = exact(*world())
    assert z(sampled["grad_trace"] * 11 / 12, trace) < -5
    assert z(sampled["grad_square"] + sampled["grad_trace"] / EPISODES, square) > 5


def rows(count, seed=0, mask=None):
    """Random experience in a world of five states, [N] or [T, B]."""
    g = np.random.default_rng(seed)
    shape = count if isinstance(count, tuple) else (count,)
    zeros, no = np.zeros(shape, np.float32), np.zeros(shape, bool)
    trajectory = row(
        obs=g.integers(0, 5, shape, dtype=np.int32),
        time=np.zeros(shape, np.int32),
        action=g.integers(0, 3, shape, dtype=np.int32),
        log_prob=zeros - np.float32(np.log(3)),
        seen=Step(g.integers(0, 5, shape, dtype=np.int32), zeros, no, no),
        mask=np.ones(shape, np.float32) if mask is None else mask.astype(np.float32),
    )
    return jax.tree.map(jnp.asarray, Batch(trajectory, *g.normal(size=(3, *shape)).astype(np.float32)))


@pytest.fixture(scope="module")
def table():
    policy = make_policy(make("TabularMDP-pgjax"))
    return policy, policy.init(KEY)


def flat(tree):
    return np.concatenate([np.float64(x).ravel() for x in jax.tree.leaves(tree)])


@pytest.mark.parametrize("count", [32, (5, 8)])
def test_of_equal_parts_it_is_the_papers_formula(count, table):
    """McCandlish et al. 2018, app. A.1, with the mean of |G|^2 over the small batches; in samples of one step."""
    policy, params = table
    batch = rows(count)
    estimator = jax.jit(surrogate(losses.actor_critic(losses.ppo_clip)), static_argnums=1, static_argnames="noise")
    big, metrics = estimator(KEY, policy, params, batch, noise=True)
    large = batch.trajectory.mask.size
    small, squares = large // 8, []
    for k in range(8):
        at = np.arange(4 * k, 4 * k + 4) if batch.trajectory.mask.ndim == 1 else (slice(None), [k])
        part, _ = estimator(KEY, policy, params, jax.tree.map(lambda x, at=at: x[at], batch))
        squares.append(np.sum(flat(part) ** 2))
    g_big, g_small = np.sum(flat(big) ** 2), np.mean(squares)
    square = (large * g_big - small * g_small) / (large - small)
    trace = (g_small - g_big) / (1 / small - 1 / large)
    np.testing.assert_allclose(metrics["grad_square"], square, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics["grad_trace"], trace, rtol=1e-4)


def test_parts_of_unequal_numbers_of_steps_are_weighed_by_them(table):
    """tr Sigma of independent steps, exact by every row, from batches whose masks are random."""
    policy, params = table
    estimator = surrogate(losses.policy_gradient)
    pool = rows(64, seed=1)
    each = jax.vmap(lambda one: estimator(KEY, policy, params, jax.tree.map(lambda x: x[None], one))[0])(pool)
    each = np.concatenate([np.float64(x).reshape(64, -1) for x in jax.tree.leaves(each)], axis=1)
    square, trace = np.sum(each.mean(axis=0) ** 2), np.sum(each.var(axis=0))

    def one(key):
        key_rows, key_mask = jax.random.split(key)
        batch = jax.tree.map(lambda x: x[jax.random.randint(key_rows, (24,), 0, 64)], pool)
        mask = jax.random.bernoulli(key_mask, 0.4, (24,)).astype(jnp.float32)
        batch = batch._replace(trajectory=batch.trajectory._replace(mask=mask))
        return estimator(key, policy, params, batch, noise=True)[1]

    found = jax.jit(jax.vmap(one))(jax.random.split(KEY, 4000))
    assert abs(z(np.float64(found["grad_square"]), square)) < 4
    assert abs(z(np.float64(found["grad_trace"]), trace)) < 4


def test_it_changes_nothing_and_is_nothing_where_it_is_off(table):
    policy, params = table
    batch, estimator = rows((6, 8)), surrogate(losses.actor_critic(losses.ppo_clip))
    off, on = (estimator(KEY, policy, params, batch, noise=noise) for noise in (False, True))
    assert set(on[1]) - set(off[1]) == {"grad_square", "grad_trace"}
    np.testing.assert_array_equal(flat(off[0]), flat(on[0]))
    traced = [
        str(jax.make_jaxpr(lambda b, f=f: f(KEY, policy, params, b))(batch))
        for f in (estimator, bind(estimator, noise=False))
    ]
    assert traced[0] == traced[1]


def test_without_two_parts_it_is_unknown_and_one_environment_is_refused(table):
    policy, params = table
    estimator = surrogate(losses.policy_gradient)
    mask = np.zeros((3, 4))
    mask[:, 1] = 1
    metrics = estimator(KEY, policy, params, rows((3, 4), mask=mask), noise=True)[1]
    assert np.isnan(metrics["grad_trace"]) and np.isnan(metrics["grad_square"])
    with pytest.raises(ValueError, match="noise=True compares parts of each minibatch, and here one environment"):
        estimator(KEY, policy, params, rows((3, 1)), noise=True)


def test_the_estimator_conforms_with_it():
    check_estimator(surrogate(losses.actor_critic(losses.ppo_clip)), noise=True)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["ppo", "reinforce", "v_mpo"])
def test_training_tells_of_it(algorithm):
    shared = {"num_envs": 4, "hidden": (4,), "num_steps": 8, "eval_episodes": 4}
    runs = [
        pgjax.run(algorithm, "CartPole-v1", seeds=2, updates=3, settings=shared | more, progress=False).metrics
        for more in ({}, {"estimator.noise": True})
    ]
    assert "noise_scale" not in runs[0] and "grad_trace" not in runs[0]
    found = runs[1]
    assert (found.grad_trace > 0).all()
    np.testing.assert_allclose(found.noise_scale, found.grad_trace / found.grad_square, rtol=1e-5)
    np.testing.assert_allclose(found.snr, found.grad_square / found.grad_trace, rtol=1e-5)
    np.testing.assert_allclose(runs[0].episode_return, found.episode_return, rtol=1e-4)


def test_groups_that_begin_alike_are_refused():
    """Episodes of a group share their start and their baseline: they are no independent samples."""
    settings = {"num_envs": 4, "num_minibatches": 1, "samples": 2, "estimator.noise": True}
    with pytest.raises(ValueError, match="noise=True takes environments for independent samples, and samples=2"):
        pgjax.run("rloo", "TabularMDP-pgjax", updates=1, settings=settings)

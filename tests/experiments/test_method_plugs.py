"""The methods that are no losses: advantages, estimators, an optimiser and policies."""

import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import papers
import pytest
import scipy.special
import scipy.stats
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
from worlds import stretched

from pgjax import policies
from pgjax.config import Config
from pgjax.envs.registry import make
from pgjax.hyperparameters import bind
from pgjax.policies.distributions import Categorical
from pgjax.testing import check_advantage, check_estimator, check_policy

load = runpy.run_path(str(pathlib.Path(__file__).parents[2] / "experiments" / "methods" / "table.py"))["load"]
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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["beta_policy", "mixture_policy"])
def test_a_policy_keeps_the_rules_of_policies(name):
    env = stretched([1.0, -3.0], [2.0, 0.5])
    check_policy(load(name)(env, Config(hidden=(8,))), env)


def acting(name, env, n=1, scale=1.0):
    """The distribution [n] of a policy with random weights, at random observations."""
    policy = load(name)(env, Config(hidden=(8,)))
    params = jax.tree.map(lambda x: x + scale * jax.random.normal(KEY, x.shape), policy.init(KEY))
    return policy.act(params, (), jax.random.normal(jax.random.key(1), (n, *env.observation_space.shape)))[0]


def within(samples, mean, variance):
    """Whether the mean of samples [N, ...] is within 5 standard errors."""
    assert (np.abs(samples.mean(axis=0) - mean) < 5 * np.sqrt(variance / len(samples))).all()


def test_the_beta_policy_is_scipys_beta_on_the_box():
    dist = acting("beta_policy", stretched([1.0, -3.0], [2.0, 0.5]), n=4)
    a, b, low, high = (np.float64(x) for x in dist)
    np.testing.assert_allclose(low, np.tile([-1.0, -3.5], (4, 1)))
    np.testing.assert_allclose(high, np.tile([3.0, -2.5], (4, 1)))
    same = scipy.stats.beta(a, b, loc=low, scale=high - low)
    action = same.rvs(random_state=0)
    np.testing.assert_allclose(dist.log_prob(jnp.float32(action)), same.logpdf(action).sum(-1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dist.entropy(), same.entropy().sum(-1), rtol=1e-4, atol=1e-4)
    other = dist._replace(alpha=dist.beta + 0.5, beta=dist.alpha)
    u = (np.arange(20_000) + 0.5) / 20_000
    grid = low + (high - low) * u[:, None, None]
    density = same.pdf(grid)
    np.testing.assert_allclose(density.mean(axis=0) * (high - low), 1, rtol=1e-4)
    far = scipy.stats.beta(b + 0.5, a, loc=low, scale=high - low).logpdf(grid)
    kl = np.sum((density * (same.logpdf(grid) - far)).mean(axis=0) * (high - low), axis=-1)
    np.testing.assert_allclose(dist.kl(other), kl, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(dist.kl(dist), 0, atol=1e-5)
    top = np.take_along_axis(grid, density.argmax(axis=0)[None], axis=0)[0]
    np.testing.assert_allclose(dist.mode(), top, atol=1e-3)
    samples = np.asarray(jax.vmap(dist.sample)(jax.random.split(KEY, 4000)))
    assert ((samples >= low) & (samples <= high)).all()
    within(samples, same.mean(), same.var())
    within((samples - same.mean()) ** 2, same.var(), (grid - same.mean()).var(axis=0) * 10)
    edge = jnp.float32(np.stack([low[0], high[0], low[0], high[0]]))
    gradient = jax.grad(lambda d: jnp.sum(d.log_prob(edge)))(dist)
    assert all(np.isfinite(x).all() for x in (dist.log_prob(edge), gradient.alpha, gradient.beta))


def test_the_mixture_policy_is_a_mixture_and_its_entropy_and_kl_are_bounds():
    dist = acting("mixture_policy", make("Pendulum-v1"), n=2, scale=0.7)
    mean, std = np.float64(dist.each.mean)[..., 0], np.exp(np.float64(dist.each.log_std))[..., 0]
    share = softmax(np.float64(dist.which.logits))

    def log_density(x, mean=mean, std=std):  # [N, 2]
        each = scipy.stats.norm(mean, std).logpdf(x[..., None])
        return scipy.special.logsumexp(each, b=np.broadcast_to(share, each.shape), axis=-1)

    grid = np.linspace(-40, 40, 80_001)[:, None] * np.ones(2)
    width = grid[1, 0] - grid[0, 0]
    density = np.exp(log_density(grid))
    np.testing.assert_allclose(density.sum(axis=0) * width, 1, rtol=1e-5)
    found = jax.vmap(dist.log_prob)(jnp.float32(grid[::100, :, None]))
    np.testing.assert_allclose(found, log_density(np.float32(grid[::100]).astype(np.float64)), rtol=1e-4, atol=1e-3)
    entropy = -np.sum(density * log_density(grid), axis=0) * width
    assert (dist.entropy() >= entropy - 1e-4).all()
    other = dist._replace(each=dist.each._replace(mean=dist.each.mean + 0.5))
    kl = np.sum(density * (log_density(grid) - log_density(grid, mean + 0.5)), axis=0) * width
    assert (dist.kl(other) >= kl - 1e-4).all() and (dist.kl(other) < kl + 1).all()
    np.testing.assert_allclose(dist.kl(dist), 0, atol=1e-5)
    apart = dist._replace(each=dist.each._replace(mean=dist.each.mean + 1e3 * jnp.arange(3.0).reshape(1, 3, 1)))
    exact = scipy.stats.entropy(share, axis=-1) + np.sum(share * scipy.stats.norm(0, std).entropy(), axis=-1)
    np.testing.assert_allclose(apart.entropy(), exact, rtol=1e-4)
    moved = apart._replace(which=Categorical(-apart.which.logits), each=apart.each._replace(mean=apart.each.mean + 0.5))
    other = softmax(-np.float64(dist.which.logits))
    exact = np.sum(share * (np.log(share / other) + 0.5 * (0.5 / std) ** 2), axis=-1)
    np.testing.assert_allclose(apart.kl(moved), exact, rtol=1e-3)
    samples = np.asarray(jax.vmap(dist.sample)(jax.random.split(KEY, 4000)))[..., 0]
    middle = np.sum(share * mean, axis=-1)
    variance = np.sum(share * (std**2 + mean**2), axis=-1) - middle**2
    within(samples, middle, variance)
    within(samples > middle, np.sum(share * scipy.stats.norm(mean, std).sf(middle[:, None]), axis=-1), 0.25)
    np.testing.assert_allclose(dist.mode()[..., 0], mean[np.arange(2), share.argmax(axis=-1)], rtol=1e-5)

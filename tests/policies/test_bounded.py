"""Beta and mixed policies over a Box: against scipy, against samples, and bounds by quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from worlds import stretched

from pgjax import policies
from pgjax.config import Config
from pgjax.envs import make
from pgjax.policies.bounded import Beta
from pgjax.policies.distributions import Categorical
from pgjax.testing import check_policy

KEY = jax.random.key(0)


def softmax(x):
    return scipy.special.softmax(x, axis=-1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["beta", "mixture", "squashed"])
def test_a_policy_keeps_the_rules_of_policies(kind):
    env = stretched([1.0, -3.0], [2.0, 0.5])
    check_policy(policies.make(env, Config(hidden=(8,), distribution=kind)), env)


def acting(kind, env, n=1, scale=1.0):
    """The distribution [n] of a policy with random weights, at random observations."""
    policy = policies.make(env, Config(hidden=(8,), distribution=kind))
    params = jax.tree.map(lambda x: x + scale * jax.random.normal(KEY, x.shape), policy.init(KEY))
    return policy.act(params, (), jax.random.normal(jax.random.key(1), (n, *env.observation_space.shape)))[0]


def within(samples, mean, variance):
    """Whether the mean of samples [N, ...] is within 5 standard errors."""
    assert (np.abs(samples.mean(axis=0) - mean) < 5 * np.sqrt(variance / len(samples))).all()


def test_the_beta_policy_is_scipys_beta_on_the_box():
    dist = acting("beta", stretched([1.0, -3.0], [2.0, 0.5]), n=4)
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
    dist = acting("mixture", make("Pendulum-v1"), n=2, scale=0.7)
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


def test_a_flat_beta_has_its_mode_in_the_middle():
    flat = Beta(*(jnp.full((1, 2), x) for x in (1.0, 1.0, -1.0, 3.0)))
    np.testing.assert_allclose(flat.mode(), 1.0)

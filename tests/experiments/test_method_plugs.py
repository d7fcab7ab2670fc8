"""The methods that are no losses: advantages, estimators, an optimiser, policies, and critics of their own."""

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
from experience import ACTIONS, STATES, B, T, episodes, experience, softmax
from flax import nnx
from worlds import stretched

from pgjax import policies
from pgjax.config import Config
from pgjax.envs.registry import make
from pgjax.hyperparameters import bind, default_hypers
from pgjax.policies.distributions import Categorical
from pgjax.testing import check_advantage, check_estimator, check_learner, check_policy

load = runpy.run_path(str(pathlib.Path(__file__).parents[2] / "experiments" / "methods" / "table.py"))["load"]
KEY, DISCOUNT = jax.random.key(0), 0.9
OFF = {"entropy_coef": 0.0, "normalize_advantage": False}


class Rows(nnx.Module):
    """Tables: preferences, a value and an array of shape `more` for each state; shared: preferences are all."""

    def __init__(self, more=(), shared=False):
        self.preference = nnx.Param(jnp.zeros((STATES, ACTIONS)))
        if not shared:
            self.value, self.more = nnx.Param(jnp.zeros(STATES)), nnx.Param(jnp.zeros((STATES, *more)))
        self.shared = shared

    def __call__(self, obs):
        x = self.preference[...][obs]
        if self.shared:
            return Categorical(x), x[..., 0] - 2 * x[..., 1]
        return Categorical(x), self.value[...][obs], self.more[...][obs]


@pytest.fixture(scope="module")
def table():
    return policies.make(make("TabularMDP-pgjax"))


@pytest.fixture(scope="module")
def stream(table):
    """(params, batch [T, B]) of a stream with ends of both kinds, every step of which counts."""
    g = np.random.default_rng(5)
    params, batch = experience(table)
    end = g.integers(0, 6, size=(T, B))
    trajectory = batch.trajectory._replace(
        terminated=jnp.asarray(end == 0),
        truncated=jnp.asarray(end == 1),
        mask=jnp.ones((T, B)),
        log_prob=jnp.log(softmax(np.zeros((STATES, ACTIONS), np.float32)))[batch.trajectory.obs, 0],
        reward=jnp.asarray(g.normal(size=(T, B)), jnp.float32),
    )
    value = g.normal(size=(T + 1, B)).astype(np.float32)
    ends = (end < 2) | (np.arange(T) == T - 1)[:, None]
    next_value = np.where(ends, g.normal(size=(T, B)), value[1:]).astype(np.float32)
    then = batch.then._replace(value=jnp.asarray(value[:-1]), next_value=jnp.asarray(next_value))
    return params, batch._replace(trajectory=trajectory, then=then, value=then.value)


def plain(trajectory):
    return jax.tree.map(lambda x: np.asarray(x, np.float64) if x.dtype == np.float32 else np.asarray(x), trajectory)


def lambda_returns(trajectory, following, weight):
    """G_t = r_t + gamma ((1 - weight_t) V'_t + weight_t G_{t+1}), a loop in float64; weight is [T, B]."""
    g = np.zeros((T, B))
    for b in range(B):
        for t in reversed(range(T)):
            if trajectory.terminated[t, b]:
                g[t, b] = trajectory.reward[t, b]
            elif trajectory.truncated[t, b] or t == T - 1:
                g[t, b] = trajectory.reward[t, b] + DISCOUNT * following[t, b]
            else:
                ahead = weight[t, b] * g[t + 1, b] + (1 - weight[t, b]) * following[t, b]
                g[t, b] = trajectory.reward[t, b] + DISCOUNT * ahead
    return g


def test_upgo_goes_on_while_actions_do_better_than_expected(stream):
    _, batch = stream
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


def acting(name, env, n=1, scale=1.0):
    """The distribution [n] of a policy with random weights, at random observations."""
    policy = load(name)(env, Config(hidden=(8,)))
    check_policy(policy, env)
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


def critic(name, stream, more, **hypers):
    """(gradient, params, batch) of an algorithm's estimator on tables, in a stream."""
    _, batch = stream
    g = np.random.default_rng(1)
    shapes = {"preference": (STATES, ACTIONS), "value": (STATES,), "more": (STATES, *more)}
    params = {key: g.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
    policy = policies.from_nnx(lambda rngs: Rows(more))
    estimator = bind(load(name).algorithm.estimator, **hypers)
    gradient, _ = jax.jit(estimator, static_argnums=1)(KEY, policy, params, batch)
    return gradient, params, batch


def learner(name, env="CartPole-v1"):
    """What the policy of an algorithm with a network of its own says of 6 steps, next_obs being obs backwards."""
    entry, env = load(name), make(env)
    config = Config(num_envs=4, num_steps=8, hidden=(8,), num_minibatches=2, epsilon=entry.config.epsilon)
    made = entry.learner(env, policies.make(env, config), entry.algorithm, config)
    check_learner(made, default_hypers(entry.algorithm))
    policy, params = made.policy(made.init(KEY, default_hypers(entry.algorithm)))
    params = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(KEY, x.shape), params)
    obs = jax.random.normal(KEY, (6, *env.observation_space.shape))
    trajectory = experience(policies.make(make("TabularMDP-pgjax")))[1].trajectory
    rows = jax.tree.map(lambda x: x.reshape(-1)[:6], trajectory._replace(memory=(), action=trajectory.action % 2))
    return policy.evaluate(params, rows._replace(obs=obs, next_obs=obs[::-1]))


def test_hl_gauss_learns_the_histogram_of_a_gaussian(stream):
    edges = np.linspace(-120, 120, 102)
    params, batch = stream
    batch = batch._replace(target=batch.target.at[0, 0].set(300.0).at[1, 1].set(-33.3) * 4)
    found, params, batch = critic("hl_gauss", (params, batch), (101,), spread=0.6, value_coef=0.7, **OFF)
    expected = np.zeros((STATES, 101))
    for t, b in np.ndindex(T, B):
        target = np.clip(float(batch.target[t, b]), -120, 120)
        below = scipy.stats.norm(target, 0.6 * 240 / 101).cdf(edges)
        p = np.diff(below) / (below[-1] - below[0])
        s = int(batch.trajectory.obs[t, b])
        expected[s] += 0.7 * (softmax(np.float64(params["more"][s])) - p) / (T * B)
    np.testing.assert_allclose(found["more"], expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(found["value"], 0)
    now = learner("hl_gauss")
    value = softmax(np.float64(now.extra)) @ ((edges[1:] + edges[:-1]) / 2)
    np.testing.assert_allclose(now.value, value, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(now.next_value, value[::-1], rtol=1e-4, atol=1e-4)


def test_symlog_fits_the_logarithm_and_the_value_is_its_inverse(stream):
    found, params, batch = critic("symlog", stream, (), value_coef=0.7, **OFF)
    expected = np.zeros(STATES)
    for t, b in np.ndindex(T, B):
        target, s = float(batch.target[t, b]), batch.trajectory.obs[t, b]
        log = np.log(1 + target) if target > 0 else -np.log(1 - target)
        expected[s] += 0.7 * (float(params["more"][s]) - log) / (T * B)
    np.testing.assert_allclose(found["more"], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found["value"], 0)
    now = learner("symlog")
    f = np.float64(now.extra)
    assert f.min() < 0 < f.max()
    np.testing.assert_allclose(now.value, np.sign(f) * (np.exp(np.abs(f)) - 1), rtol=1e-4, atol=1e-6)


def test_dae_learns_advantages_from_backups(stream):
    found, params, batch = critic("dae", stream, (ACTIONS,), discount=DISCOUNT, value_coef=0.7, **OFF)
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
    assert learner("dae").extra.shape == (6, 2)


def test_pqn_is_q_lambda_with_greedy_values(stream):
    found, params, batch = critic("pqn", stream, (ACTIONS,))
    tr, q = plain(batch.trajectory), np.float64(params["more"])
    expected = np.zeros((STATES, ACTIONS))
    for t, b in np.ndindex(T, B):
        s, a = tr.obs[t, b], tr.action[t, b]
        expected[s, a] += (q[s, a] - float(batch.target[t, b])) / (T * B)
    np.testing.assert_allclose(found["more"], expected, rtol=1e-4, atol=1e-6)
    _, target = load("pqn").algorithm.advantage(batch.trajectory, batch.then, discount=DISCOUNT, q_lambda=0.6)
    looped = lambda_returns(tr, np.float64(batch.then.next_value), np.full((T, B), 0.6))
    np.testing.assert_allclose(target, looped, rtol=1e-4, atol=1e-5)
    now = learner("pqn")
    np.testing.assert_allclose(now.value, now.extra.max(axis=-1))
    np.testing.assert_allclose(now.next_value, now.value[::-1], rtol=1e-5)
    np.testing.assert_array_equal(now.dist.mode(), now.extra.argmax(axis=-1))
    assert set(np.asarray(jnp.exp(now.dist.log_probs())).ravel()) == {0.0, 1.0}


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


def test_retrace_sums_over_traces_that_are_cut_where_the_policies_differ(stream):
    params, batch = stream
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

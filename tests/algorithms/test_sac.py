"""Soft actor-critic against float64 loops written from the papers, and whether it learns."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces
from twin_critics import BOX, HIGH, LOW, both, close, differences, double, network, shaken

from pgjax import envs, hyperparameters, rollout, testing
from pgjax.advantages import td
from pgjax.algorithms import sac
from pgjax.config import Config
from pgjax.hyperparameters import bind
from pgjax.optimizers import adam, sgd
from pgjax.testing import worlds
from pgjax.training import loop
from pgjax.types import Algorithm, Batch, Evaluation, Trajectory

TABLE = envs.make("TabularMDP-pgjax", horizon=3, terminal=np.arange(5) == 4)
PENDULUM = envs.make("Pendulum-v1")
TINY = Config(num_envs=2, num_steps=3, hidden=(3,))
OPTIONS = {"batch_size": 4, "buffer_size": 50, "warmup": 0, "gradient_steps": 2}


def make(env, config=TINY, optimizer=adam, swept=(), **options):
    algorithm = Algorithm(td, bind(sac.sac, **{**OPTIONS, **options}), optimizer)
    return sac.make_learner(env, None, algorithm, config), hyperparameters.default_hypers(algorithm, **dict(swept))


# ---- the papers, in float64 ----


def draw(actor, obs, noise):
    """An action and its log-probability (2018, app. C)."""
    mean, log_std = np.split(network(actor, obs), 2, axis=-1)
    log_std = np.clip(log_std, -20, 2)
    u = mean + np.exp(log_std) * noise
    half = (HIGH - LOW) / 2
    log_prob = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi) - np.log(half * (1 - np.tanh(u) ** 2))
    return LOW + half * (1 + np.tanh(u)), log_prob.sum(-1)


def log_softmax(x):
    return x - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)) - x.max(-1, keepdims=True)


def sums(actor, twins, obs, noise):
    """(E[-log pi], E[min Q]): of one draw, or exact where noise is None."""
    if noise is None:
        log_pi = log_softmax(network(actor, obs))
        pi = np.exp(log_pi)
        return -(pi * log_pi).sum(-1), (pi * both(twins, obs).min(0)).sum(-1)
    action, log_prob = draw(actor, obs, noise)
    return -log_prob, both(twins, obs, action).min(0)


def losses(params, frozen, obs, action, target, noise, entropy_target):
    """The three losses; each has its gradient in `params`, what it takes as given is `frozen`."""
    if noise is None:
        q = both(params["twins"], obs)[:, np.arange(len(obs)), action]
    else:
        q = both(params["twins"], obs, action)
    critic = 0.5 * ((q - target) ** 2).sum(0).mean()
    entropy, worth = sums(params["actor"], frozen["twins"], obs, noise)
    actor = (-np.exp(frozen["log_alpha"]) * entropy - worth).mean()
    entropy, _ = sums(frozen["actor"], frozen["twins"], obs, noise)
    return critic, actor, (np.exp(params["log_alpha"]) * (entropy - entropy_target)).mean()


@pytest.fixture(scope="module", params=["box", "finite"])
def case(request):
    """A policy, its parameters and those of the targets, and rows [N] of every kind of ending."""
    env = PENDULUM._replace(action_space=BOX) if request.param == "box" else envs.make("CartPole-v1")
    policy = sac.make_policy(env, TINY)
    params = shaken(policy.init(jax.random.key(0)), 0.4)
    targets = shaken(params["twins"], 0.4)
    g, n = np.random.default_rng(0), 6
    width = env.observation_space.shape[0]
    action = g.uniform(LOW, HIGH, (n, 2)).astype(np.float32) if request.param == "box" else g.integers(0, 2, n)
    rows = Trajectory(
        obs=jnp.asarray(g.normal(size=(n, width)), jnp.float32),
        action=jnp.asarray(action),
        log_prob=jnp.zeros(n),
        reward=jnp.asarray(g.normal(size=n), jnp.float32),
        terminated=jnp.array([True, False, False, True, False, False]),
        truncated=jnp.array([False, True, False, False, True, False]),
        next_obs=jnp.asarray(g.normal(size=(n, width)), jnp.float32),
        mask=jnp.ones(n),
        time=jnp.zeros(n, jnp.int32),
        memory=(),
    )
    return request.param, policy, params, targets, rows


def noise_of(kind, key):
    return np.float64(jax.random.normal(key, (6, 2))) if kind == "box" else None


def test_the_target_is_that_of_the_paper_and_heeds_the_time_limit(case):
    kind, policy, params, targets, rows = case
    key = jax.random.key(1)
    now = jax.jit(lambda p, t: sac.evaluate(key, policy, p, t, rows))(params, targets)
    _, target = td(rows, now, discount=0.9)
    p, t = double(params), double(targets)
    entropy, worth = sums(p["actor"], t, np.float64(rows.next_obs), noise_of(kind, key))
    soft_value = worth + np.exp(p["log_alpha"]) * entropy
    close(target, np.float64(rows.reward) + 0.9 * np.where(rows.terminated, 0, 1) * soft_value)
    if kind == "box":
        q = both(p["twins"], np.float64(rows.obs), np.float64(rows.action)).min(0)
    else:
        q = both(p["twins"], np.float64(rows.obs)).min(0)[np.arange(6), rows.action]
    close(now.value, q)


def test_the_losses_and_their_gradient_are_those_of_the_papers(case):
    kind, policy, params, targets, rows = case
    key, target = jax.random.key(2), jnp.linspace(-2, 2, 6)
    batch = Batch(rows, target, target, target)
    run = jax.jit(lambda p: sac.sac(key, policy, p, batch, target_entropy_box=-0.7, target_entropy_finite=0.7))
    gradient, metrics = run(params)
    p = double(params)
    wanted = -0.7 * 2 + np.log(2) + np.log(0.5) if kind == "box" else 0.7 * math.log(2)
    action = np.asarray(rows.action, np.float64 if kind == "box" else int)
    given = (np.float64(rows.obs), action, np.float64(target), noise_of(kind, key), wanted)
    expected = losses(p, p, *given)
    close([metrics[name] for name in ("critic_loss", "actor_loss", "alpha_loss")], list(expected))
    close(gradient, differences(lambda x: sum(losses(x, p, *given)), p), 2e-3)
    close(metrics["alpha"], np.exp(p["log_alpha"]))


def test_the_temperature_rises_where_the_entropy_is_too_low(case):
    """d / d log alpha of eq. 18 is alpha (E[-log pi] - H)."""
    _, policy, params, _, rows = case
    zeros = jnp.zeros(6)
    batch = Batch(rows, zeros, zeros, zeros)
    run = jax.jit(lambda h: sac.sac(jax.random.key(0), policy, params, batch, **h))
    for h in (-5.0, 5.0):
        gradient, metrics = run({"target_entropy_box": h, "target_entropy_finite": h})
        gap = metrics["entropy"] - policy.parts.target_entropy(h, h, policy.act(params, (), rows.obs)[0])
        np.testing.assert_allclose(gradient["log_alpha"], metrics["alpha"] * gap, rtol=1e-5)
        # The optimiser descends: alpha rises where the gap is negative.
        assert (gradient["log_alpha"] < 0) == (gap < 0)


def test_on_a_buffer_of_one_row_learning_is_the_loop_of_the_paper():
    """Christodoulou 2019, alg. 1, with a table, plain gradient descent and tau: step by step, all ends included."""
    rate, tau, gamma = 0.3, 0.2, 0.9
    config = Config(num_envs=1, num_steps=1)
    plain = {"batch_size": 1, "buffer_size": 1, "gradient_steps": 1}
    swept = {"advantage": {"discount": gamma}, "optimizer": {"learning_rate": rate}}
    swept["estimator"] = {"tau": tau, "initial_alpha": 0.6, "target_entropy_finite": 0.5}
    made, hypers = make(TABLE, config, sgd, swept, **plain)
    step = jax.jit(made.step)
    state = jax.jit(made.init)(jax.random.key(0), hypers)
    close(np.exp(state.params["log_alpha"]), 0.6)
    close(state.targets, state.params["twins"], 0)
    p, t, kinds = double(state.params), double(state.targets), set()
    for u in range(12):
        state, metrics = step(jax.random.key(u), state, hypers)
        row = jax.tree.map(lambda x: np.asarray(x)[0], state.buffer.value.experience)
        obs, next_obs = np.eye(5)[row.obs], np.eye(5)[row.next_obs]
        entropy, worth = sums(p["actor"], t, next_obs, None)
        ahead = 0.0 if row.terminated[0] else gamma * (worth + np.exp(p["log_alpha"]) * entropy)
        given = (obs, row.action, row.reward + ahead, None, 0.5 * math.log(3))
        slope = differences(lambda x: sum(losses(x, p, *given)), p)  # noqa: B023
        p = jax.tree.map(lambda x, s: x - rate * s, p, slope)
        t = jax.tree.map(lambda new, old: tau * new + (1 - tau) * old, p["twins"], t)
        close(made.policy(state)[1], p, 1e-4)
        close(state.targets, t, 1e-4)
        kinds.add((bool(row.terminated[0]), bool(row.truncated[0])))
    assert kinds == {(True, False), (False, True), (False, False)}, "the stream had not every kind of ending"


@pytest.mark.slow
def test_it_conforms():
    for env in (TABLE, PENDULUM):
        made, hypers = make(env)
        testing.check_learner(made, hypers)
        policy, _ = made.policy(jax.eval_shape(lambda: made.init(jax.random.key(0), hypers)))  # noqa: B023
        testing.check_policy(policy, env, num_steps=6)


@pytest.mark.slow
def test_its_gradient_conforms():
    testing.check_estimator(sac.sac, sac.make_policy(PENDULUM, TINY), PENDULUM)
    testing.check_estimator(sac.sac, sac.make_policy(TABLE), TABLE)


@pytest.mark.slow
@pytest.mark.parametrize("env", [TABLE, PENDULUM], ids=["finite", "box"])
def test_a_run_cut_in_two_goes_on_as_if_it_had_not_been(env):
    made, hypers = make(env, warmup=7)
    key = jax.random.key(5)
    run = jax.jit(lambda s, n: loop.train(key, made, s, hypers, n), static_argnums=1)
    start = jax.jit(lambda: loop.init(key, made, hypers))()
    whole, _ = run(start, 4)
    halves, _ = run(run(start, 2)[0], 2)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(halves), jax.tree.leaves(whole))


def test_what_it_needs_is_said():
    with pytest.raises(ValueError, match="Box of actions with one axis and finite bounds"):
        make(PENDULUM._replace(action_space=spaces.Box(-np.inf, np.inf, (1,), jnp.float32)))
    with pytest.raises(TypeError, match="twin critics"):
        policy, params, batch = worlds.example()
        sac.sac(jax.random.key(0), policy, params, batch)


def test_steps_that_do_not_count_have_no_part_in_it(case):
    _, policy, params, _, rows = case
    target = jnp.linspace(-2, 2, 6)
    run = jax.jit(lambda t: sac.sac(jax.random.key(0), policy, params, Batch(rows._replace(mask=mask), t, t, t))[0])
    mask = jnp.array([1.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    close(run(target), run(jnp.where(mask > 0, target, jnp.nan)), 0)
    assert isinstance(sac.evaluate(jax.random.key(0), policy, params, params["twins"], rows), Evaluation)


@pytest.mark.slow
def test_it_swings_the_pendulum_up():
    config = Config(num_envs=4, num_steps=4, hidden=(64, 64), activation="relu")
    plain = bind(adam, learning_rate=1e-3, max_grad_norm=math.inf, eps=1e-8)
    made, hypers = make(PENDULUM, config, plain, batch_size=128, buffer_size=10_000, warmup=1000, gradient_steps=16)

    def run(seed):
        key = jax.random.key(seed)
        state, _ = loop.train(key, made, loop.init(key, made, hypers), hypers, 625)
        policy, params = made.policy(state.learner)
        return rollout.evaluate(key, PENDULUM, policy, params, 16, greedy=True).episode_return.mean()

    found = jax.jit(jax.vmap(run))(jnp.arange(3))
    assert float(jnp.median(found)) > -400, found  # at random -1200

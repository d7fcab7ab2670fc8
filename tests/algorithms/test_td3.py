"""TD3 against float64 loops written from the paper, and whether it learns."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import worlds
from gymnax.environments import spaces
from twin_critics import BOX, HIGH, LOW, both, close, differences, double, network, shaken

from pgjax import envs, hyperparameters, rollout, testing
from pgjax.advantages import td
from pgjax.algorithms import sac, td3
from pgjax.config import Config
from pgjax.hyperparameters import bind
from pgjax.optimizers import adam, sgd
from pgjax.training import loop
from pgjax.types import Algorithm, Batch, Trajectory

PENDULUM = envs.make("Pendulum-v1")
TINY = Config(num_envs=2, num_steps=3, hidden=(3,))
OPTIONS = {"batch_size": 4, "buffer_size": 50, "warmup": 0, "gradient_steps": 2, "target_period": 2}
HALF = (HIGH - LOW) / 2


def make(env, config=TINY, optimizer=adam, swept=(), **options):
    algorithm = Algorithm(td, bind(td3.td3, **{**OPTIONS, **options}), optimizer)
    return td3.make_learner(env, None, algorithm, config), hyperparameters.default_hypers(algorithm, **dict(swept))


# ---- the paper, in float64 ----


def pi(actor, obs):
    return LOW + HALF * (1 + np.tanh(network(actor, obs)))


def target_of(targets, reward, terminated, next_obs, noise, sigma, c, gamma):
    """Algorithm 1: y = r + gamma min_i Q'_i(s', pi'(s') + e), the noise standard normal numbers."""
    smoothed = np.clip(pi(targets["actor"], next_obs) + HALF * np.clip(sigma * noise, -c, c), LOW, HIGH)
    return reward + np.where(terminated, 0.0, gamma * both(targets["twins"], next_obs, smoothed).min(0))


def losses(params, frozen, obs, action, target):
    """Of the critics and of the actor; each has its gradient in `params`, what it takes as given is `frozen`."""
    critic = ((both(params["twins"], obs, np.clip(action, LOW, HIGH)) - target) ** 2).mean(-1).sum()
    return critic, -both(frozen["twins"], obs, pi(params["actor"], obs))[0].mean()


@pytest.fixture(scope="module")
def case():
    """A policy, two sets of parameters, and rows [N] of every kind of ending, with actions beyond the Box too."""
    policy = td3.make_policy(PENDULUM._replace(action_space=BOX), TINY)
    params = shaken(policy.init(jax.random.key(0)), 0.4)
    params["exploration_noise"] = jnp.float32(0.1)
    targets = shaken(params, 0.4)
    g, n = np.random.default_rng(0), 6
    rows = Trajectory(
        obs=jnp.asarray(g.normal(size=(n, 3)), jnp.float32),
        action=jnp.asarray(g.uniform(LOW - HALF, HIGH + HALF, (n, 2)), jnp.float32),
        log_prob=jnp.zeros(n),
        reward=jnp.asarray(g.normal(size=n), jnp.float32),
        terminated=jnp.array([True, False, False, True, False, False]),
        truncated=jnp.array([False, True, False, False, True, False]),
        next_obs=jnp.asarray(g.normal(size=(n, 3)), jnp.float32),
        mask=jnp.ones(n),
        time=jnp.zeros(n, jnp.int32),
        memory=(),
    )
    beyond = (np.asarray(rows.action) < LOW) | (np.asarray(rows.action) > HIGH)
    assert beyond.any() and not beyond.all()
    return policy, params, targets, rows


def test_the_target_is_that_of_the_paper_and_heeds_the_time_limit(case):
    policy, params, targets, rows = case
    key = jax.random.key(1)
    sigma, c = 1.5, 0.6  # so that the noise is clipped where the action is not, and the action too
    now = jax.jit(lambda p, t: td3.evaluate(key, policy, p, t, rows, sigma, c))(params, targets)
    _, target = td(rows, now, discount=0.9)
    p, t, noise = double(params), double(targets), np.float64(jax.random.normal(key, (6, 2)))
    wide = pi(t["actor"], np.float64(rows.next_obs)) + HALF * np.clip(sigma * noise, -c, c)
    beyond = (wide < LOW) | (wide > HIGH)
    assert ((np.abs(sigma * noise) > c) & ~beyond).any() and beyond.any()
    given = (np.float64(rows.reward), np.asarray(rows.terminated), np.float64(rows.next_obs), noise)
    close(target, target_of(t, *given, sigma, c, 0.9))
    close(now.value, both(p["twins"], np.float64(rows.obs), np.clip(np.float64(rows.action), LOW, HIGH)).min(0))


def test_the_losses_and_their_gradient_are_those_of_the_paper(case):
    policy, params, _, rows = case
    target = jnp.linspace(-2, 2, 6)
    batch = Batch(rows, target, target, target)
    gradient, metrics = jax.jit(lambda p: td3.td3(jax.random.key(0), policy, p, batch))(params)
    p = double(params)
    given = (np.float64(rows.obs), np.float64(rows.action), np.float64(target))
    close([metrics[name] for name in ("critic_loss", "actor_loss")], list(losses(p, p, *given)))
    expected = differences(lambda x: sum(losses(x, p, *given)), p)
    close(gradient, expected, 2e-3)
    assert max(np.abs(x).max() for x in jax.tree.leaves(expected["actor"])) > 0.01
    assert gradient["exploration_noise"] == 0


def test_the_noise_of_what_acts_is_a_share_of_half_the_box(case):
    policy, params, _, rows = case
    obs = jnp.broadcast_to(rows.obs[:1], (4096, 3))
    dist, _ = policy.act({**params, "exploration_noise": jnp.float32(0.3)}, (), obs)
    off = np.asarray(jax.jit(lambda d: d.sample(jax.random.key(0)))(dist) - dist.mode()) / HALF
    np.testing.assert_allclose(off.std(axis=0), 0.3, rtol=0.05)
    close(dist.mode()[:1], pi(double(params)["actor"], np.float64(rows.obs[:1])))
    made, hypers = make(PENDULUM, swept={"estimator": {"exploration_noise": 0.25}})
    assert float(jax.jit(made.init)(jax.random.key(0), hypers).params["exploration_noise"]) == 0.25


def test_on_a_buffer_of_one_row_learning_is_the_loop_of_the_paper():
    """Algorithm 1 with plain gradient descent, d = 2 and tau: step by step, all ends included."""
    rate, tau, gamma, sigma, c = 0.05, 0.3, 0.9, 0.4, 0.5
    env = worlds.stretched(tuple((LOW + HIGH) / 2), tuple(HALF))
    plain = {"batch_size": 1, "buffer_size": 1, "gradient_steps": 1}
    swept = {"advantage": {"discount": gamma}, "optimizer": {"learning_rate": rate}}
    swept["estimator"] = {"tau": tau, "target_noise": sigma, "noise_clip": c}
    made, hypers = make(env, Config(num_envs=1, num_steps=1, hidden=(3,)), sgd, swept, **plain)
    step = jax.jit(made.step)
    state = jax.jit(made.init)(jax.random.key(0), hypers)
    close(state.targets, state.params, 0)
    p, t, kinds = double(state.params), double(state.targets), set()
    for u in range(12):
        key = jax.random.key(u)
        state, _ = step(key, state, hypers)
        # As Learner.step, and learning with replay, split it.
        key_steps = jax.random.split(jax.random.split(key)[1])[1]
        key_target = jax.random.split(jax.random.split(key_steps, 1)[0])[0]
        noise = np.float64(jax.random.normal(key_target, (1, 2)))
        row = double(jax.tree.map(lambda x: np.asarray(x)[0], state.buffer.value.experience))
        y = target_of(t, row.reward, row.terminated > 0, row.next_obs, noise, sigma, c, gamma)
        slope = differences(lambda x: sum(losses(x, p, row.obs, row.action, y)), p)  # noqa: B023
        moving = ("twins", "actor") if (u + 1) % 2 == 0 else ("twins",)
        p = {**p, **{k: jax.tree.map(lambda x, s: x - rate * s, p[k], slope[k]) for k in moving}}
        if (u + 1) % 2 == 0:
            t = jax.tree.map(lambda new, old: tau * new + (1 - tau) * old, p, t)
        close(made.policy(state)[1], p, 1e-4)
        close(state.targets, t, 1e-4)
        kinds.add((bool(row.terminated[0]), bool(row.truncated[0])))
    assert kinds == {(True, False), (False, True), (False, False)}, "the stream had not every kind of ending"


def test_the_actors_optimiser_sees_the_gradients_of_its_own_steps_alone():
    g = np.random.default_rng(0)
    gradients = [{k: jnp.float32(g.normal(size=2)) for k in ("actor", "twins")} for _ in range(7)]
    params = {"actor": jnp.zeros(2), "twins": jnp.zeros(2), "exploration_noise": jnp.float32(0.1)}
    found = params
    transform, plain = td3.delayed(bind(adam, max_grad_norm=1.0), 3)(), bind(adam, max_grad_norm=1.0)()
    state, update = transform.init(params), jax.jit(transform.update)
    for one in gradients:
        moved, state = update({**one, "exploration_noise": jnp.float32(9.0)}, state, found)
        found = optax.apply_updates(found, moved)
    for name, seen in (("actor", gradients[2::3]), ("twins", gradients)):
        x, memory = params[name], plain.init(params[name])
        for one in seen:
            moved, memory = plain.update(one[name], memory)
            x = optax.apply_updates(x, moved)
        np.testing.assert_allclose(found[name], x, rtol=1e-5)
    assert found["exploration_noise"] == params["exploration_noise"]


@pytest.mark.slow
def test_it_conforms():
    made, hypers = make(PENDULUM)
    testing.check_learner(made, hypers)
    policy, _ = made.policy(jax.eval_shape(lambda: made.init(jax.random.key(0), hypers)))
    testing.check_policy(policy, PENDULUM, num_steps=6)


@pytest.mark.slow
def test_its_gradient_conforms():
    testing.check_estimator(td3.td3, td3.make_policy(PENDULUM, TINY), PENDULUM)


@pytest.mark.slow
def test_a_run_cut_in_two_goes_on_as_if_it_had_not_been():
    made, hypers = make(PENDULUM, warmup=7, target_period=3, policy_delay=3)
    key = jax.random.key(5)
    run = jax.jit(lambda s, n: loop.train(key, made, s, hypers, n), static_argnums=1)
    start = jax.jit(lambda: loop.init(key, made, hypers))()
    whole, _ = run(start, 4)
    halves, _ = run(run(start, 2)[0], 2)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(halves), jax.tree.leaves(whole))


def test_what_it_needs_is_said():
    with pytest.raises(
        ValueError, match="a deterministic actor needs a Box of actions, got Discrete.*; use sac or dqn"
    ):
        make(envs.make("CartPole-v1"))
    with pytest.raises(ValueError, match="Box of actions with one axis and finite bounds"):
        make(PENDULUM._replace(action_space=spaces.Box(-np.inf, np.inf, (1,), jnp.float32)))
    with pytest.raises(TypeError, match="td3 needs a policy with twin critics"):
        policy, params, batch = testing.worlds.example()
        td3.td3(jax.random.key(0), policy, params, batch)
    with pytest.raises(ValueError, match="estimator 'sac' has no hyperparameter 'exploration_noise'; use td3.losses"):
        td3.make_learner(PENDULUM, None, Algorithm(td, sac.sac, adam), TINY)


def test_steps_that_do_not_count_have_no_part_in_it(case):
    policy, params, _, rows = case
    target = jnp.linspace(-2, 2, 6)
    run = jax.jit(lambda t: td3.td3(jax.random.key(0), policy, params, Batch(rows._replace(mask=mask), t, t, t))[0])
    mask = jnp.array([1.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    close(run(target), run(jnp.where(mask > 0, target, jnp.nan)), 0)


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

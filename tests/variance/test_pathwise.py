"""The pathwise estimator against a linear-quadratic world, where J and its gradient are known by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from gymnax.environments import spaces

from pgjax import envs, policies, variance
from pgjax.config import Config
from pgjax.policies.distributions import DiagGaussian
from pgjax.training import failures
from pgjax.types import Env, Evaluation, Policy, Step
from pgjax.variance.estimators.pathwise import pathwise

A, B, Q, R, NOISE, GAMMA, HORIZON = 0.9, 0.5, 1.0, 0.3, 0.2, 0.95, 6
PARAMS = {"gain": jnp.float32(-0.4), "log_std": jnp.float32(-0.7)}


def linear_quadratic(shortest=HORIZON, noise=NOISE, cut=None):
    """s' = A s + B u + noise, reward -(Q s^2 + R u^2); s_0 = 1; an episode lasts `shortest` to HORIZON steps.

    How long is drawn at the start, so that the end tells nothing of the actions.
    """

    def reset(key, params):
        last = jax.random.randint(key, (), shortest, HORIZON + 1)
        return (jnp.float32(1.0), jnp.int32(0), last), jnp.ones(1)

    def step(key, params, state, action):
        s, t, last = state
        u = action[0]
        following = A * s + B * u + noise * jax.random.normal(key)
        reward = -(Q * s**2 + R * u**2)
        if cut == "state":
            following = jax.lax.stop_gradient(following)
        if cut == "reward":
            reward = jax.lax.stop_gradient(reward)
        # Behind the end, which must not count, everything is a thousandfold.
        reward, following = (jnp.where(t < last, x, 1000 * x) for x in (reward, following))
        over, by_world = t + 1 >= last, (last < HORIZON) & (last % 2 == 0)
        return (following, t + 1, last), Step(following[None], reward, over & by_world, over & ~by_world)

    box = spaces.Box(-100.0, 100.0, (1,))
    return Env(params={}, reset=reset, step=step, observation_space=box, action_space=box, max_steps=HORIZON)


def dist_of(params, obs):
    return DiagGaussian(params["gain"] * obs, jnp.broadcast_to(params["log_std"], obs.shape))


def evaluate(params, trajectory):
    dist, zero = dist_of(params, trajectory.obs), jnp.zeros(trajectory.reward.shape)
    return Evaluation(dist, dist.log_prob(trajectory.action), dist.entropy(), zero, zero)


POLICY = Policy(
    init=lambda key: PARAMS,
    memory=lambda batch: (),
    act=lambda params, memory, obs: (dist_of(params, obs), memory),
    evaluate=evaluate,
)


def exact(lengths, noise=NOISE):
    """J's gradient in float64: E s_t^2 = M_t follows M' = (A + B k)^2 M + B^2 sigma^2 + noise^2."""
    k, sigma = -0.4, np.exp(-0.7)
    total = np.zeros(2)
    for length in lengths:
        m, dm = 1.0, np.zeros(2)  # and its derivatives by the gain and by log sigma
        for t in range(length):
            by_gain = -(Q + R * k**2) * dm[0] - 2 * R * k * m
            by_std = -(Q + R * k**2) * dm[1] - 2 * R * sigma**2
            total += GAMMA**t * np.array([by_gain, by_std]) / len(lengths)
            c = A + B * k
            m, dm = (
                c**2 * m + B**2 * sigma**2 + noise**2,
                np.array([c**2 * dm[0] + 2 * B * c * m, c**2 * dm[1] + 2 * B**2 * sigma**2]),
            )
    return {"gain": total[0], "log_std": total[1]}


def by_differences(env, key, name, delta=1e-3):
    """The derivative of the same episode's return, from the world and the policy alone."""

    def total(params):
        key_start, key_steps = jax.random.split(key)
        state, obs = env.reset(jax.random.split(key_start, 1)[0], env.params)
        found, going = 0.0, True
        for t, key_t in enumerate(jax.random.split(key_steps, HORIZON)):
            key_action, key_env = jax.random.split(key_t, 2)
            action = dist_of(params, obs[None]).sample(key_action)[0]
            state, seen = env.step(key_env, env.params, state, action)
            found += GAMMA**t * float(seen.reward) if going else 0.0
            obs, going = seen.obs, going and not (seen.terminated | seen.truncated)
        return found

    up, down = (total({**PARAMS, name: PARAMS[name] + sign * delta}) for sign in (1, -1))
    return (up - down) / (2 * delta)


@pytest.mark.parametrize("shortest", [HORIZON, 2])
def test_one_estimate_is_the_derivative_of_its_own_episodes_return(shortest):
    env = linear_quadratic(shortest)
    gradient = jax.jit(pathwise(env, POLICY, discount=GAMMA))
    for seed in range(3):
        found = gradient(jax.random.key(seed), PARAMS)
        for name in PARAMS:
            np.testing.assert_allclose(found[name], by_differences(env, jax.random.key(seed), name), rtol=5e-3)


@pytest.mark.parametrize("shortest", [HORIZON, 2])
def test_the_mean_is_the_exact_gradient_and_ascends(shortest):
    env = linear_quadratic(shortest)
    gradient = pathwise(env, POLICY, discount=GAMMA, batch=4)
    keys = jax.random.split(jax.random.key(0), 4096)
    found = jax.jit(lambda keys: jax.lax.map(lambda key: gradient(key, PARAMS), keys))(keys)
    truth = exact(range(shortest, HORIZON + 1))
    for name, x in found.items():
        x = np.asarray(x, np.float64)
        se = x.std(ddof=1) / np.sqrt(len(x))
        assert abs(x.mean() - truth[name]) < 5 * se, name
        assert se < 0.05 * abs(truth[name])


def test_fewer_steps_are_those_of_a_shorter_episode():
    # Nothing is drawn but the actions, and those nearly not at all.
    env, params = linear_quadratic(noise=0.0), {"gain": PARAMS["gain"], "log_std": jnp.float32(-30.0)}
    found = pathwise(env, POLICY, 3, discount=GAMMA)(jax.random.key(0), params)
    k, s, ds, expected = -0.4, 1.0, 0.0, 0.0
    for t in range(3):
        expected -= GAMMA**t * (2 * (Q + R * k**2) * s * ds + 2 * R * k * s**2)
        s, ds = (A + B * k) * s, (A + B * k) * ds + B * s
    np.testing.assert_allclose(found["gain"], expected, rtol=1e-5)


@pytest.mark.slow
def test_the_laboratory_finds_it_unbiased_beside_the_score_function():
    env = linear_quadratic()
    chosen = {
        "to_go": variance.ESTIMATORS["to_go"],
        "time": variance.ESTIMATORS["time"],
        "pathwise": pathwise(env, POLICY, discount=GAMMA),
    }
    options = {"episodes": 2048, "batch": (1, 32), "pilot": 64, "reference_episodes": 16384}
    rows = variance.compare(chosen, env, POLICY, PARAMS, discount=GAMMA, **options).summary["estimators"]
    assert all(abs(row["bias_z"]) < 5 for row in rows.values())
    # On a smooth world and a short horizon, knowing the world's derivative is worth much more than a baseline.
    assert 5 * rows["pathwise"]["trace"]["value"] < rows["time"]["trace"]["value"] < rows["to_go"]["trace"]["value"]


def test_what_is_cut_off_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"^pathwise differentiates by the action, and the action space is .*Discrete"):
        pathwise(envs.make("CartPole-v1"), POLICY)
    for cut, what in (("state", "obs"), ("reward", "reward")):
        with pytest.raises(ValueError, match=f"^pathwise: {what} depends on the action, but its derivative"):
            pathwise(linear_quadratic(cut=cut), POLICY)

    class Rounded(DiagGaussian):
        def sample(self, key):
            return jnp.round(super().sample(key))

    rounded = POLICY._replace(act=lambda params, memory, obs: (Rounded(*dist_of(params, obs)), memory))
    with pytest.raises(ValueError, match="^pathwise: the policy's samples have no derivative by its parameters$"):
        pathwise(linear_quadratic(), rounded)
    for given in ({"num_steps": 0}, {"batch": 0}):
        with pytest.raises(ValueError, match="must be 1 or more, got 0"):
            pathwise(linear_quadratic(), POLICY, **given)


@pytest.mark.parametrize("name", ["Pendulum-v1", "Reacher-misc"])
def test_worlds_of_gymnax_can_be_differentiated(name):
    env = envs.make(name, max_steps_in_episode=3)
    policy = policies.make(env, Config(hidden=(4,)))
    gradient = jax.jit(pathwise(env, policy))(jax.random.key(1), policy.init(jax.random.key(0)))
    sizes = [float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(gradient)]
    assert np.isfinite(sizes).all() and max(sizes) > 0


@pytest.mark.slow
def test_every_continuous_world_of_gymnax_is_accepted():
    worlds = {"MountainCarContinuous-v0", "Pendulum-v1", "PointRobot-misc", "Reacher-misc", "Swimmer-misc"}
    found = {name for name in envs.names() if "MNIST" not in name and hasattr(envs.make(name).action_space, "low")}
    assert found == worlds
    for name in worlds:
        pathwise(envs.make(name), policies.make(envs.make(name), Config(hidden=(4,))))


def test_a_derivative_that_is_no_number_behind_an_end_does_not_count():
    """The reward is the root of the state, which has no root behind the end: d sqrt(s) / ds is NaN there."""

    def reset(key, params):
        return jnp.array([0.5]), jnp.array([0.5])

    def step(key, params, state, action):
        following = state - 0.2 + 0.01 * action
        ended = following[0] < 0.05
        return following, Step(following, jnp.sqrt(state[0]), ended, jnp.bool_(False))

    box = spaces.Box(-1.0, 1.0, (1,))
    env = Env((), reset, step, box, box, 6)
    policy = policies.make(env, Config(hidden=(4,)))
    params = policy.init(jax.random.key(0))
    found = [pathwise(env, policy, steps, batch=4)(jax.random.key(1), params) for steps in (3, 6)]
    assert failures.all_finite(found) and float(optax.tree.norm(found[0])) > 0
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *found)

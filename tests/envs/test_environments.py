"""Worlds: the adapter against gymnax itself, our own worlds against what they promise."""

import re
from typing import NamedTuple

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces
from scipy import stats

from pgjax import envs
from pgjax.envs import brax, probes
from pgjax.types import Step

WORLDS = [
    "CartPole-v1",
    "Pendulum-v1",
    "Acrobot-v1",
    "MountainCarContinuous-v0",
    "Catch-bsuite",
    "Breakout-MinAtar",
    "MemoryChain-bsuite",
]
LIMIT = 15


@pytest.mark.parametrize("name", WORLDS)
def test_the_adapter_equals_gymnax_along_a_trajectory(name):
    world, params = gymnax.make(name)
    params = params.replace(max_steps_in_episode=LIMIT)
    env = envs.make(name, max_steps_in_episode=LIMIT)
    assert env.max_steps == LIMIT

    @jax.jit
    def both(key_reset, key_steps, key_actions):
        """Ours along one trajectory that is never reset; gymnax's from each of its states."""

        def step(state, inputs):
            key, action = inputs
            # gymnax's own step splits its key in two, and hands the first half to step_env.
            following, seen = env.step(jax.random.split(key)[0], env.params, state, action)
            return following, (state, following, seen)

        keys = jax.random.split(key_steps, 40)
        actions = jax.vmap(env.action_space.sample)(jax.random.split(key_actions, 40))
        first = env.reset(key_reset, env.params)
        before, after, seen = jax.lax.scan(step, first[0], (keys, actions))[1]
        there = jax.vmap(lambda k, s, a: world.step(k, s, a, params))(keys, before, actions)
        return first, after, seen, world.reset(key_reset, params), there

    first, after, seen, first_there, there = jax.device_get(both(*jax.random.split(jax.random.key(0), 3)))
    _, after_there, reward, terminated, truncated, info = there
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)  # noqa: E731
    jax.tree.map(close, first, first_there[::-1])
    jax.tree.map(close, seen.obs, info["final_observation"])
    close(seen.reward, reward)
    np.testing.assert_array_equal(seen.terminated, terminated)
    np.testing.assert_array_equal(seen.truncated, truncated & ~terminated)
    assert np.any(truncated)
    # Where an episode ended, gymnax has reset the state already.
    goes_on = ~(terminated | truncated)
    jax.tree.map(lambda a, b: close(a[goes_on], b[goes_on]), after, after_there)


@pytest.mark.parametrize("name", envs.names())
def test_what_a_step_gives_back_has_the_types_of_what_it_took(name):
    if name == "MNISTBandit-bsuite":
        pytest.skip("downloads a data set")
    env = envs.make(name)
    key = jax.random.key(0)
    state, obs = jax.eval_shape(env.reset, key, env.params)
    action = jax.eval_shape(env.action_space.sample, key)
    following, seen = jax.eval_shape(env.step, key, env.params, state, action)
    kind = lambda x: (x.shape, x.dtype, x.weak_type)  # noqa: E731
    assert jax.tree.map(kind, following) == jax.tree.map(kind, state)
    assert jax.tree.map(kind, seen.obs) == jax.tree.map(kind, obs)
    assert (seen.reward.shape, seen.reward.dtype) == ((), jnp.float32)
    assert (seen.terminated.shape, seen.terminated.dtype) == ((), jnp.bool_)
    assert (seen.truncated.shape, seen.truncated.dtype) == ((), jnp.bool_)


def test_cartpole_held_up_is_truncated_at_500_steps_and_not_terminated():
    env = envs.make("CartPole-v1")

    def step(carry, key):
        state, obs = carry
        x, x_dot, theta, theta_dot = obs
        action = (0.1 * x + 0.3 * x_dot + 3 * theta + theta_dot > 0).astype(jnp.int32)
        state, seen = env.step(key, env.params, state, action)
        return (state, seen.obs), seen

    start = env.reset(jax.random.key(0), env.params)
    seen = jax.jit(lambda keys: jax.lax.scan(step, start, keys)[1])(jax.random.split(jax.random.key(1), 500))
    assert not np.any(seen.terminated)
    np.testing.assert_array_equal(np.flatnonzero(seen.truncated), [499])


def test_an_end_at_the_time_limit_is_terminated_and_not_truncated():
    env = envs.make("DiscountProbe-pgjax", max_steps_in_episode=2)
    state, _ = env.reset(jax.random.key(0), env.params)
    for last in (False, True):
        state, seen = env.step(jax.random.key(1), env.params, state, jnp.int32(0))
        assert (bool(seen.terminated), bool(seen.truncated)) == (last, False)


def test_a_parameter_is_set_by_name_and_changes_the_world():
    heavy, light = envs.make("Pendulum-v1"), envs.make("Pendulum-v1", g=5.0)
    assert (heavy.params.g, light.params.g) == (10.0, 5.0)
    state, obs = heavy.reset(jax.random.key(0), heavy.params)
    torque = jnp.zeros(1)
    speeds = [float(e.step(jax.random.key(0), e.params, state, torque)[1].obs[2]) for e in (heavy, light)]
    # The equation of motion, gymnax's: theta_dot + 3 g / (2 l) sin(theta) dt.
    expected = [float(obs[2] + 1.5 * g * obs[1] * 0.05) for g in (10.0, 5.0)]
    np.testing.assert_allclose(speeds, expected, rtol=1e-5)


def test_a_constructor_argument_is_set_by_name():
    env = envs.make("MemoryChain-bsuite", num_bits=2, memory_length=4)
    assert env.observation_space.shape == (4,)
    assert env.params.memory_length == 4
    assert env.reset(jax.random.key(0), env.params)[1].shape == (4,)


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=re.escape("no environment 'Cartpole-v1'; did you mean 'CartPole-v1'?")):
        envs.make("Cartpole-v1")
    with pytest.raises(ValueError, match="CartPole-v1 takes no parameter 'gravty'; did you mean 'gravity'"):
        envs.make("CartPole-v1", gravty=1.0)
    with pytest.raises(ValueError, match="takes no parameter 'zzz'; choose from max_steps_in_episode"):
        envs.make("Pendulum-v1", zzz=1.0)
    with pytest.raises(ValueError, match="takes no parameter 'gravty'; did you mean 'gravity'"):
        envs.with_params(envs.make("CartPole-v1"), {"gravty": 1.0})


def test_names_hold_gymnaxs_worlds_and_ours():
    names = envs.names()
    assert {"CartPole-v1", "Breakout-MinAtar", "TabularMDP-pgjax"} <= set(names)
    assert {f"{probe.__name__}-pgjax" for probe in probes.PROBES} <= set(names)


def test_our_worlds_are_gymnax_environments():
    world, params = gymnax.make("PolicyProbe-pgjax")
    obs, state = world.reset(jax.random.key(0), params)
    _, _, reward, terminated, truncated, _ = world.step(
        jax.random.key(1), state, (obs[0] > 0).astype(jnp.int32), params
    )
    assert (float(reward), bool(terminated), bool(truncated)) == (1.0, True, False)


def test_actions_of_a_box_are_clipped_to_its_bounds():
    # This world pays -0.1 a^2 for the action as it is handed over.
    env = envs.make("MountainCarContinuous-v0")
    state, _ = env.reset(jax.random.key(0), env.params)
    pay = [env.step(jax.random.key(0), env.params, state, jnp.full(1, a))[1].reward for a in (1.0, 50.0, -50.0, 0.5)]
    np.testing.assert_allclose(pay, [-0.1, -0.1, -0.1, -0.025], rtol=1e-6)


def test_a_bound_that_is_a_parameter_clips_at_its_swept_value():
    env = envs.make("Pendulum-v1")
    strong = envs.with_params(env, {"max_torque": jnp.float32(4.0)})
    state, _ = env.reset(jax.random.key(0), env.params)
    after, _ = env.step(jax.random.key(0), strong, state, jnp.full(1, 10.0))
    assert float(after.last_u) == 4.0


def test_with_params_takes_traced_values():
    env = envs.make("CartPole-v1")
    state, _ = env.reset(jax.random.key(0), env.params)

    def push(force):
        params = envs.with_params(env, {"force_mag": force})
        return env.step(jax.random.key(0), params, state, jnp.int32(1))[1].obs[1]

    one, two, three = jax.vmap(push)(jnp.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(three - two, two - one, rtol=1e-3)
    assert two > one
    assert env.params.force_mag == 10.0


def test_parameters_may_be_a_dict_or_a_named_tuple():
    env = envs.make("CartPole-v1")
    assert envs.with_params(env._replace(params={"a": 1, "b": 2}), {"b": 3}) == {"a": 1, "b": 3}
    assert envs.with_params(env._replace(params=Step(1, 2, 3, 4)), {"obs": 5}) == Step(5, 2, 3, 4)


def play(name, action, sign=1.0):
    """(obs, reward, terminated) of each step of one episode of a probe, the first obs with no reward."""
    env = envs.make(name)
    signs = {}
    for seed in range(20):
        state, obs = env.reset(jax.random.key(seed), env.params)
        signs.setdefault(float(state.sign), (state, obs))
    state, obs = signs[sign]
    rows = [(float(obs[0]), None, False)]
    while not rows[-1][2]:
        state, seen = env.step(jax.random.key(0), env.params, state, jnp.int32(action))
        rows.append((float(seen.obs[0]), float(seen.reward), bool(seen.terminated)))
    return rows


def test_the_probes_are_what_their_docstrings_say():
    assert play("ValueProbe-pgjax", 0) == [(1.0, None, False), (1.0, 1.0, True)]
    for sign in (1.0, -1.0):
        assert play("ObservationProbe-pgjax", 0, sign) == [(sign, None, False), (sign, sign, True)]
    assert [row[:2] for row in play("DiscountProbe-pgjax", 0)[:2]] == [(0.0, None), (1.0, 0.0)]
    assert play("DiscountProbe-pgjax", 0)[2][1:] == (1.0, True)
    for sign in (1.0, -1.0):
        assert [play("ActionProbe-pgjax", a, sign)[1][1] for a in (0, 1)] == [-1.0, 1.0]
        assert [play("PolicyProbe-pgjax", a, sign)[1][1] for a in (0, 1)] == [-sign, sign]
        assert play("PolicyProbe-pgjax", 0, sign)[0][0] == sign


@pytest.mark.parametrize("probe", probes.PROBES, ids=lambda p: p.__name__)
def test_a_probe_is_inside_its_own_spaces(probe):
    env = envs.from_gymnax(probe())
    assert env.action_space.n == (2 if probe in (probes.ActionProbe, probes.PolicyProbe) else 1)
    state, obs = jax.vmap(env.reset, (0, None))(jax.random.split(jax.random.key(0), 64), env.params)
    assert bool(jnp.all(jax.vmap(env.observation_space.contains)(obs)))
    # The coin is fair: 64 tosses, 5 standard deviations.
    assert abs(float(jnp.mean(state.sign))) < 5 / 8


def test_tabular_transitions_rewards_and_starts_follow_the_tables():
    env = envs.make("TabularMDP-pgjax")
    transition, reward, start = (np.asarray(getattr(env.params, n)) for n in ("transition", "reward", "start"))
    states, actions, _ = transition.shape
    draws = 2000
    template, _ = env.reset(jax.random.key(0), env.params)

    def one(key, s, a):
        state, seen = env.step(key, env.params, template.replace(state=s), a)
        return state.state, seen.obs, seen.reward

    s, a = jnp.meshgrid(jnp.arange(states), jnp.arange(actions), indexing="ij")
    s, a = (jnp.repeat(x.ravel(), draws).astype(jnp.int32) for x in (s, a))
    following, obs, paid = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(3), s.size), s, a)
    np.testing.assert_array_equal(obs, following)
    np.testing.assert_array_equal(paid, reward[np.asarray(s), np.asarray(a)])

    counts = np.zeros_like(transition)
    np.add.at(counts, (np.asarray(s), np.asarray(a), np.asarray(following)), 1)
    statistic = np.sum((counts - draws * transition) ** 2 / (draws * transition))
    assert 1e-4 < stats.chi2.sf(statistic, states * actions * (states - 1)) < 1 - 1e-4

    first, _ = jax.vmap(env.reset, (0, None))(jax.random.split(jax.random.key(4), draws), env.params)
    counts = np.bincount(np.asarray(first.state), minlength=states)
    assert stats.chisquare(counts, draws * start / start.sum()).pvalue > 1e-4


def test_a_terminal_state_ends_the_episode_and_the_horizon_truncates_it():
    ring = np.roll(np.eye(4), 1, axis=1)[:, None]  # state s goes to s + 1
    world = dict(transition=ring, reward=np.arange(4.0)[:, None], start=np.eye(4)[0])
    ends = {}
    for name, more in (("terminal", dict(terminal=[False, False, False, True])), ("horizon", dict(horizon=5))):
        env = envs.make("TabularMDP-pgjax", **world, **more)
        state, obs = env.reset(jax.random.key(0), env.params)
        assert int(obs) == 0
        rows = []
        for _ in range(5):
            state, seen = env.step(jax.random.key(0), env.params, state, jnp.int32(0))
            rows.append((int(seen.obs), float(seen.reward), bool(seen.terminated), bool(seen.truncated)))
        ends[name] = rows
    assert ends["terminal"][:3] == [(1, 0.0, False, False), (2, 1.0, False, False), (3, 2.0, True, False)]
    assert [row[2:] for row in ends["horizon"]] == [(False, False)] * 4 + [(False, True)]


def test_tables_are_parameters_that_may_be_traced():
    env = envs.make("TabularMDP-pgjax")
    state, _ = env.reset(jax.random.key(0), env.params)

    def paid(reward):
        params = envs.with_params(env, {"reward": reward})
        return env.step(jax.random.key(0), params, state, jnp.int32(1))[1].reward

    gradient = jax.grad(paid)(env.params.reward)
    expected = np.zeros((5, 3))
    expected[int(state.state), 1] = 1.0
    np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize(
    "tables",
    [
        dict(transition=np.ones((3, 2, 3)) / 3),
        dict(transition=np.ones((3, 2, 3)) / 3, reward=np.zeros((3, 2))),
        dict(transition=np.ones((3, 2, 3)) / 3, reward=np.zeros((2, 3)), start=np.ones(3) / 3),
        dict(transition=np.ones((3, 2, 4)) / 4, reward=np.zeros((3, 2)), start=np.ones(3) / 3),
        dict(transition=np.ones((3, 2, 3)) / 3, reward=np.zeros((3, 2)), start=np.ones(2) / 2),
        dict(
            transition=np.ones((3, 2, 3)) / 3,
            reward=np.zeros((3, 2)),
            start=np.ones(3) / 3,
            terminal=np.zeros(2, bool),
        ),
    ],
    ids=["alone", "no start", "reward", "transition", "start", "terminal"],
)
def test_tables_of_the_wrong_shape_are_refused(tables):
    with pytest.raises(ValueError, match="TabularMDP"):
        envs.make("TabularMDP-pgjax", **tables)


def test_spaces_are_gymnaxs():
    env = envs.make("Pendulum-v1")
    assert isinstance(env.action_space, spaces.Box) and env.action_space.shape == (1,)
    assert isinstance(envs.make("TabularMDP-pgjax").observation_space, spaces.Discrete)


def aligned(values):
    """A float32 array whose memory JAX can look into without a copy."""
    values = np.asarray(values, np.float32)
    raw = np.zeros(values.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    mine = raw[start : start + values.nbytes].view(np.float32).reshape(values.shape)
    mine[...] = values
    return mine


def test_a_world_keeps_the_tables_that_it_was_given_though_their_owner_writes_into_them():
    given = [np.full((2, 2, 2), 0.5), np.arange(4.0).reshape(2, 2), np.array([0.25, 0.75])]
    tables = [aligned(x) for x in given]
    env = envs.make("TabularMDP-pgjax", transition=tables[0], reward=tables[1], start=tables[2])
    arms = [aligned([0.2, 0.7]), aligned([3.0, 4.0])]
    bandit = envs.make("BernoulliBandit-pgjax", probability=arms[0], reward=arms[1])
    for table in (*tables, *arms):
        table[...] = 9
    for name, right in zip(("transition", "reward", "start"), given, strict=True):
        np.testing.assert_array_equal(getattr(env.params, name), right)
    np.testing.assert_array_equal(bandit.params.probability, np.float32([0.2, 0.7]))
    np.testing.assert_array_equal(bandit.params.reward, [3, 4])


class BraxLike:
    """What brax gives: a world of states with obs, reward and done, and its size of actions."""

    class State(NamedTuple):
        obs: jax.Array
        reward: jax.Array
        done: jax.Array

    action_size = 1

    def reset(self, key):
        return self.State(jnp.zeros(2), jnp.zeros(()), jnp.zeros(()))

    def step(self, state, action):
        return self.State(state.obs + 1, jnp.ones(()), jnp.zeros(()))


class AutoResetWrapper(BraxLike):
    def __init__(self, env):
        self.env = env


class Harmless(AutoResetWrapper):
    pass


def test_a_brax_world_keeps_the_limit_alone_and_brings_none_of_its_own():
    env = brax.from_brax(BraxLike(), 3)
    state, _ = env.reset(jax.random.key(0), env.params)
    ends = []
    for _ in range(3):
        state, seen = env.step(jax.random.key(0), env.params, state, jnp.ones(1))
        ends.append((bool(seen.terminated), bool(seen.truncated)))
    assert env.max_steps == 3 and ends == [(False, False)] * 2 + [(False, True)]
    assert brax.from_brax(Harmless(BraxLike()), 3).max_steps == 3
    for wrapped in (AutoResetWrapper(BraxLike()), Harmless(AutoResetWrapper(BraxLike()))):
        with pytest.raises(
            ValueError, match="brax: take AutoResetWrapper off the environment; resets and time limits are"
        ):
            brax.from_brax(wrapped)
    for wrong in (0, 2.5):
        with pytest.raises(ValueError, match=f"episode_length={wrong} must be a whole number of 1 or more"):
            brax.from_brax(BraxLike(), wrong)

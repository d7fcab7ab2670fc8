"""Navix's worlds against Navix itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_loops import compiled, episode, of_each_kind, stream

from pgjax import envs, testing
from pgjax.envs.suites import navix as suite

navix = pytest.importorskip("navix")

ROOM = "navix:Navix-Empty-5x5-v0"
RIGHT, FORWARD = 1, 2


def own(world):
    def step(key, state, action):
        after = world._step(state.replace(state=state.state.replace(key=key)), action)
        return after, after.observation, after.reward

    def reset(key):
        first = world.reset(key)
        return first, first.observation

    return reset, step


def test_the_limit_truncates_with_the_last_observation_of_the_episode_where_navix_says_one():
    env, world = envs.make(ROOM, max_steps=4), navix.make("Navix-Empty-5x5-v0", max_steps=4)
    reset, own_reset, step, own_step = map(compiled, (env.reset, world.reset, env.step, world.step))
    (state, first), theirs = reset(jax.random.key(0), env.params), own_reset(jax.random.key(0))
    for i in range(4):
        state, seen = step(jax.random.key(i), env.params, state, jnp.int32(RIGHT))
        theirs = own_step(theirs, RIGHT)
        assert not seen.terminated and bool(seen.truncated) == (i == 3) == bool(theirs.step_type == 1)
        np.testing.assert_array_equal(seen.obs, theirs.observation)
    # Navix's next step is the reset, whatever the action.
    np.testing.assert_array_equal(own_step(theirs, FORWARD).observation, first)


@pytest.mark.parametrize("limit", [100, 5])
def test_the_goal_terminates_and_pays_one_at_the_limit_too(limit):
    env = envs.make(ROOM, max_steps=limit)
    state, _ = env.reset(jax.random.key(0), env.params)
    step, paid = jax.jit(env.step), []
    for action in (FORWARD, FORWARD, RIGHT, FORWARD, FORWARD):
        state, seen = step(jax.random.key(0), env.params, state, jnp.int32(action))
        paid.append((float(seen.reward), bool(seen.terminated), bool(seen.truncated)))
    assert paid == [(0.0, False, False)] * 4 + [(1.0, True, False)]


def test_a_late_end_may_cost():
    env = envs.make(ROOM, max_steps=10, penality_coeff=0.5)
    state, _ = env.reset(jax.random.key(0), env.params)
    step = jax.jit(env.step)
    for action in (FORWARD, FORWARD, RIGHT, FORWARD, FORWARD):
        state, seen = step(jax.random.key(0), env.params, state, jnp.int32(action))
    assert seen.reward == 1 - 0.5 * 5 / 10


@pytest.mark.parametrize("name", ["Navix-Empty-Random-5x5-v0", "Navix-Dynamic-Obstacles-5x5-Random-v0"])
def test_episodes_are_navixs_own(name):
    env = envs.make(f"navix:{name}")
    for seed in range(3):
        steps = episode(env, *own(navix.make(name)), seed=seed)
        assert steps[-1].terminated | steps[-1].truncated


def test_the_key_of_a_step_moves_the_obstacles():
    env = envs.make("navix:Navix-Dynamic-Obstacles-8x8-v0")
    state, _ = jax.jit(env.reset)(jax.random.key(0), env.params)
    step, left = jax.jit(env.step), jnp.int32(0)
    shown = [np.asarray(step(jax.random.key(i), env.params, state, left)[1].obs) for i in (*range(16), 0)]
    assert len({x.tobytes() for x in shown}) > 4
    np.testing.assert_array_equal(shown[0], shown[-1])


@pytest.mark.parametrize("observation", ["symbolic_first_person", "categorical", "categorical_first_person"])
def test_other_observations(observation):
    env = envs.make("navix:Navix-DoorKey-5x5-v0", observation=observation)
    episode(env, *own(navix.make("Navix-DoorKey-5x5-v0", observation_fn=getattr(navix.observations, observation))))


def test_a_locked_door_is_within_the_space_of_key_corridor_alone():
    """Navix makes it with `open` 2, and shows 1 - 2 + (1 - 2) as uint8."""
    env = envs.make("navix:Navix-KeyCorridorS3R1-v0")
    shown = jax.jit(jax.vmap(lambda key: env.reset(key, env.params)[1]))(jax.random.split(jax.random.key(0), 8))
    assert np.max(shown) == np.max(env.observation_space.high) == suite.LOCKED
    assert np.max(envs.make(ROOM).observation_space.high) == 10
    assert np.max(envs.make("navix:Navix-KeyCorridorS3R1-v0", observation="categorical").observation_space.high) == 10


@pytest.mark.slow
@pytest.mark.parametrize("observation", ["rgb", "rgb_first_person"])
def test_images(observation):
    env = envs.make(ROOM, observation=observation, max_steps=4)
    assert env.observation_space.dtype == jnp.uint8 and env.observation_space.layout == "HWC"
    episode(env, *own(navix.make("Navix-Empty-5x5-v0", observation_fn=getattr(navix.observations, observation))))


def test_the_rules_are_kept_and_streams_begin_anew():
    env = envs.make(ROOM, max_steps=5)
    testing.check_env(env)
    trajectory = stream(env)
    assert trajectory.truncated.any() and trajectory.next_obs.dtype == jnp.uint8
    np.testing.assert_array_equal(trajectory.time[:6, 0], [0, 1, 2, 3, 4, 0])


@pytest.mark.slow
@pytest.mark.parametrize("name", of_each_kind(suite.names()))
def test_names_keep_the_rules(name):
    env = envs.make(f"navix:{name}")
    testing.check_env(env, steps=3)
    episode(env, *own(navix.make(name)), most=20)


def test_bad_names_and_arguments_are_one_line():
    for name, given, message in (
        (
            "navix:Navix-Empty-5x5",
            {},
            "no environment 'navix:Navix-Empty-5x5'; did you mean 'navix:Navix-Empty-5x5-v0'?",
        ),
        (ROOM, {"max_step": 5}, f"{ROOM} takes no parameter 'max_step'; did you mean 'max_steps'?"),
        (
            ROOM,
            {"max_steps": 0},
            f"{ROOM}: max_steps=0 is no time limit; give a whole number of steps, from 1 to 2147483647",
        ),
        (ROOM, {"observation": "rbg"}, f"{ROOM}: no observation 'rbg'; did you mean 'rgb'?"),
        (ROOM, {"penality_coeff": "x"}, f"{ROOM}: penality_coeff='x' must be like its default 0.0"),
    ):
        with pytest.raises(ValueError) as caught:
            envs.make(name, **given)
        assert str(caught.value) == message

"""Craftax's worlds against Craftax itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_loops import episode, stream

from pgjax import envs, testing
from pgjax.envs import registry
from pgjax.envs.suites import craftax as suite

pytest.importorskip("craftax")
from craftax.craftax_env import make_craftax_env_from_name

# A step of Craftax takes seconds to compile.
pytestmark = pytest.mark.slow

CLASSIC, FULL = "Craftax-Classic-Symbolic-v1", "Craftax-Symbolic-v1"


def own(name, **given):
    world = make_craftax_env_from_name(name, auto_reset=False)
    params = world.default_params.replace(**given)

    def reset(key):
        obs, state = world.reset(key, params)
        return state, obs

    def step(key, state, action):
        obs, state, reward, done, info = world.step(key, state, action, params)
        return (state, obs, reward) if not given else ((state, done, info["discount"]), obs, reward)

    return reset, step


def test_the_limit_truncates_with_the_last_observation_of_the_episode_where_craftax_says_done():
    env = envs.make(f"craftax:{CLASSIC}", max_timesteps=3)
    reset, own_step = own(CLASSIC, max_timesteps=3)
    (state, _), (theirs, _) = jax.jit(env.reset)(jax.random.key(0), env.params), jax.jit(reset)(jax.random.key(0))
    step, own_step = jax.jit(env.step), jax.jit(jax.numpy_rank_promotion("allow")(own_step))
    for i in range(3):
        key = jax.random.key(i)
        state, seen = step(key, env.params, state, jnp.int32(1))
        (theirs, done, discount), obs, _ = own_step(key, theirs, 1)
        assert not seen.terminated and bool(seen.truncated) == (i == 2) == bool(done)
        np.testing.assert_array_equal(seen.obs, obs)
    assert discount == 0
    # A death there is a death.
    state, _ = jax.jit(env.reset)(jax.random.key(0), env.params)
    for time, ends in ((0, (True, False)), (2, (True, False))):
        dying = state._replace(world=state.world.replace(player_health=jnp.int32(0)), time=jnp.int32(time))
        seen = step(jax.random.key(0), env.params, dying, jnp.int32(0))[1]
        assert (bool(seen.terminated), bool(seen.truncated)) == ends


@pytest.mark.parametrize("name", [CLASSIC, FULL])
def test_episodes_are_craftaxs_own(name):
    env = envs.make(f"craftax:{name}")
    assert env.max_steps == {CLASSIC: 10_000, FULL: 100_000}[name]
    assert len(episode(env, *own(name), most=40)) == 40


def test_an_episode_ends_by_death_long_before_the_limit():
    env = envs.make(f"craftax:{CLASSIC}")
    steps = episode(env, *own(CLASSIC), seed=1)
    assert steps[-1].terminated and not steps[-1].truncated and len(steps) < 2000


def test_the_rules_are_kept_and_streams_begin_anew():
    env = envs.make(f"craftax:{CLASSIC}", max_timesteps=5)
    testing.check_env(env, steps=6)
    trajectory = stream(env)
    assert trajectory.truncated.any() and trajectory.next_obs.dtype == jnp.float32
    np.testing.assert_array_equal(trajectory.time[:6, 0], [0, 1, 2, 3, 4, 0])


def test_parameters_may_be_swept():
    env = envs.make(f"craftax:{CLASSIC}")
    found = registry.settable(f"craftax:{CLASSIC}")
    assert found.built == {"max_timesteps"} and found["day_length"] == 300

    def light(day_length):
        params = envs.with_params(env, {"day_length": day_length})
        state, _ = env.reset(jax.random.key(0), params)
        return env.step(jax.random.key(0), params, state, jnp.int32(0))[0].world.light_level

    light = jax.jit(jax.vmap(light))(jnp.array([4, 300]))
    assert light[0] != light[1]


@pytest.mark.parametrize("name", ["Craftax-Pixels-v1", "Craftax-Classic-Pixels-v1"])
def test_pixels(name):
    env = envs.make(f"craftax:{name}")
    # In shapes alone: it compiles for minutes on a CPU.
    _, obs = jax.eval_shape(env.reset, jax.random.key(0), env.params)
    space = env.observation_space
    assert space.layout == "HWC" and (obs.shape, obs.dtype) == (space.shape, space.dtype)


def test_bad_names_and_arguments_are_one_line():
    name = f"craftax:{CLASSIC}"
    for known, given, message in (
        ("craftax:Craftax-Symbolc-v1", {}, "no environment 'craftax:Craftax-Symbolc-v1'; did you mean"),
        (name, {"max_timestep": 5}, f"{name} takes no parameter 'max_timestep'; did you mean 'max_timesteps'?"),
        (name, {"max_timesteps": 0}, f"{name}: max_timesteps=0 is no time limit; give a whole number"),
        (name, {"day_length": "long"}, f"{name}: day_length='long' is no number"),
    ):
        with pytest.raises(ValueError) as caught:
            envs.make(known, **given)
        assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    assert suite.names() == list(suite.NAMES)

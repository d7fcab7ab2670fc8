"""XLand-MiniGrid's worlds against XLand-MiniGrid itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_loops import compiled, episode, of_each_kind, stream

from pgjax import envs, testing
from pgjax.envs.suites import xminigrid as suite

xminigrid = pytest.importorskip("xminigrid")
from xminigrid import wrappers  # noqa: E402

ROOM = "xminigrid:MiniGrid-Empty-5x5"
FORWARD, RIGHT, LEFT = 0, 1, 2


def own(world, params):
    def reset(key):
        first = world.reset(params, key)
        return first, first.observation

    def step(key, state, action):
        after = world.step(params, state, action)
        return after, after.observation, after.reward

    return reset, step


def test_the_limit_truncates_with_the_last_observation_of_the_episode():
    env = envs.make(ROOM, max_steps=4)
    world, params = xminigrid.make("MiniGrid-Empty-5x5", max_steps=4)
    state, _ = env.reset(jax.random.key(0), env.params)
    theirs, step = world.reset(params, jax.random.key(0)), jax.jit(env.step)
    own_step = compiled(lambda state: world.step(params, state, LEFT))
    for i in range(4):
        state, seen = step(jax.random.key(i), env.params, state, jnp.int32(LEFT))
        theirs = own_step(theirs)
        assert not seen.terminated and bool(seen.truncated) == (i == 3) == bool(theirs.last())
        np.testing.assert_array_equal(seen.obs, theirs.observation)
    assert theirs.discount == 1


@pytest.mark.parametrize("limit", [100, 5])
def test_the_goal_terminates_and_pays_the_less_the_later_at_the_limit_too(limit):
    env = envs.make(ROOM, max_steps=limit)
    state, _ = env.reset(jax.random.key(0), env.params)
    step, paid = jax.jit(env.step), []
    for action in (FORWARD, FORWARD, RIGHT, FORWARD, FORWARD):
        state, seen = step(jax.random.key(0), env.params, state, jnp.int32(action))
        paid.append((float(seen.reward), bool(seen.terminated), bool(seen.truncated)))
    assert paid == [(0.0, False, False)] * 4 + [(pytest.approx(1 - 0.9 * 5 / limit), True, False)]


@pytest.mark.parametrize("name", ["MiniGrid-EmptyRandom-5x5", "MiniGrid-MemoryS8"])
def test_episodes_are_the_packages_own(name):
    env = envs.make(f"xminigrid:{name}", max_steps=60)
    for seed in range(3):
        steps = episode(env, *own(*xminigrid.make(name, max_steps=60)), seed=seed)
        assert steps[-1].terminated | steps[-1].truncated


def test_a_rule_set_is_given_with_the_parameters():
    world, params = xminigrid.make("XLand-MiniGrid-R1-9x9")
    # The goal (3, tile, colour): the agent stands beside a ball, tile 3; the ruleset puts two of them down.
    ball = jnp.array([[3, 1]], jnp.uint8)
    goal = jnp.array([3, 3, 1, 0, 0], params.ruleset.goal.dtype)
    ruleset = params.ruleset.replace(goal=goal, init_tiles=jnp.tile(ball, (20, 1)))
    env = suite.from_xminigrid(world, params.replace(ruleset=ruleset))
    steps = episode(env, *own(world, params.replace(ruleset=ruleset)))
    assert steps[-1].terminated and steps[-1].reward > 0


def test_wrappers_that_add_to_the_observation_are_welcome_and_those_that_reset_are_not():
    world, params = xminigrid.make("MiniGrid-Empty-5x5")
    env = suite.from_xminigrid(wrappers.DirectionObservationWrapper(world), params)
    assert env.observation_space.spaces.keys() == {"img", "direction"}
    obs = jax.eval_shape(env.reset, jax.random.key(0), env.params)[1]
    assert obs["img"].shape == (7, 7, 2) and obs["direction"].shape == (4,)
    with pytest.raises(ValueError, match="xminigrid: take GymAutoResetWrapper off the environment"):
        suite.from_xminigrid(wrappers.GymAutoResetWrapper(world), params)


def test_the_rules_are_kept_and_streams_begin_anew():
    env = envs.make(ROOM, max_steps=5)
    testing.check_env(env)
    trajectory = stream(env)
    assert trajectory.truncated.any() and trajectory.next_obs.dtype == jnp.uint8
    assert env.observation_space.layout == "HWC" and env.max_steps == 5
    np.testing.assert_array_equal(trajectory.time[:6, 0], [0, 1, 2, 3, 4, 0])


@pytest.mark.slow
@pytest.mark.parametrize("name", of_each_kind(suite.names()))
def test_names_keep_the_rules(name):
    env = envs.make(f"xminigrid:{name}")
    testing.check_env(env, steps=3)
    episode(env, *own(*xminigrid.make(name)), most=20)


def test_bad_names_and_arguments_are_one_line():
    for name, given, message in (
        ("xminigrid:MiniGrid-Empty-5x4", {}, "no environment 'xminigrid:MiniGrid-Empty-5x4'; did you mean"),
        (ROOM, {"max_step": 5}, f"{ROOM} takes no parameter 'max_step'; did you mean 'max_steps'?"),
        (ROOM, {"max_steps": 0}, f"{ROOM}: max_steps=0 is no time limit; give a whole number"),
        (ROOM, {"view_size": 5.0}, f"{ROOM}: view_size=5.0 must be like its default 7"),
    ):
        with pytest.raises(ValueError) as caught:
            envs.make(name, **given)
        assert str(caught.value).startswith(message) and "\n" not in str(caught.value)

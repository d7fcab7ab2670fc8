"""Jumanji's worlds against Jumanji itself."""

import gc
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_loops import compiled, episode, stream

from pgjax import envs, testing
from pgjax.envs.observations import MASK, legal
from pgjax.envs.suites import common
from pgjax.envs.suites import jumanji as suite

jumanji = pytest.importorskip("jumanji")

SNAKE = "jumanji:Snake-v1"


def own(world):
    """Jumanji's functions, with the key of each step, and with actions and masks of combinations unfolded."""
    sizes = getattr(world.action_spec, "num_values", None)
    mask = getattr(world.observation_spec, MASK, None)
    joint = mask is not None and np.ndim(sizes) and tuple(mask.shape) == tuple(np.asarray(sizes))

    def shown(seen):
        obs = common.plain(seen.observation)
        return {**obs, MASK: obs[MASK].reshape(-1)} if joint else obs

    def reset(key):
        state, first = world.reset(key)
        return state, shown(first)

    def step(key, state, action):
        state = state._replace(key=key) if hasattr(state, "_replace") else state.replace(key=key)
        if joint:
            action = jnp.stack(jnp.unravel_index(action, tuple(np.asarray(sizes))))
        state, seen = world.step(state, jnp.reshape(action, world.action_spec.shape))
        return state, shown(seen), jnp.sum(seen.reward)

    return reset, step


def test_the_limit_truncates_with_the_last_observation_of_the_episode_where_jumanji_says_zero():
    env, world = envs.make(SNAKE, time_limit=3), jumanji.make("Snake-v1", time_limit=3)
    (state, obs), (theirs, _) = env.reset(jax.random.key(0), env.params), world.reset(jax.random.key(0))
    step, own_step = jax.jit(env.step), compiled(world.step)
    for i in range(3):
        action, key = jnp.argmax(obs[MASK]), jax.random.key(i)
        state, seen = step(key, env.params, state, action)
        theirs, after = own_step(theirs.replace(key=key), action)
        obs = seen.obs
        assert not seen.terminated and bool(seen.truncated) == (i == 2) == bool(after.last())
        np.testing.assert_array_equal(obs["grid"], after.observation.grid)
    assert after.discount == 0 and obs["step_count"] == 3


@pytest.mark.parametrize("limit", [4000, 1])
def test_a_wall_terminates_at_the_limit_too(limit):
    env = envs.make(SNAKE, time_limit=limit)
    state, obs = env.reset(jax.random.key(0), env.params)
    head = state.world.head_position
    state = state._replace(world=state.world.replace(head_position=type(head)(row=jnp.int32(0), col=head.col)))
    mask = state.world.action_mask.at[0].set(False)
    state = state._replace(world=state.world.replace(action_mask=mask))
    _, seen = env.step(jax.random.key(0), env.params, state, jnp.int32(0))
    assert seen.terminated and not seen.truncated


def test_the_key_of_a_step_draws_what_is_random():
    env = envs.make("jumanji:Game2048-v1")
    state, obs = env.reset(jax.random.key(0), env.params)
    action = jnp.argmax(obs[MASK])
    boards = jax.vmap(lambda k: env.step(k, env.params, state, action)[1].obs["board"])(
        jax.random.split(jax.random.key(1), 32)
    )
    assert np.unique(boards, axis=0).shape[0] > 8


def test_a_mask_of_combinations_is_one_of_a_single_choice():
    env = envs.make("jumanji:Tetris-v0")
    assert env.action_space.n == 4 * 10 and env.observation_space.spaces[MASK].shape == (40,)
    assert legal(env.observation_space, env.action_space)


def test_several_agents_choose_at_once_and_share_their_rewards():
    env, world = envs.make("jumanji:LevelBasedForaging-v0"), jumanji.make("LevelBasedForaging-v0")
    assert env.action_space.nvec.tolist() == [6, 6]
    assert legal(env.observation_space, env.action_space)
    steps = episode(env, *own(world))
    assert steps[-1].truncated or steps[-1].terminated


def test_episodes_are_jumanjis_own():
    for seed in range(2):
        steps = episode(envs.make(SNAKE), *own(jumanji.make("Snake-v1")), seed=seed, most=60)
        assert steps[-1].terminated or len(steps) == 60


def test_the_rules_are_kept_and_streams_begin_anew():
    env = envs.make("jumanji:Maze-v0", time_limit=5)
    testing.check_env(env)
    assert legal(env.observation_space, env.action_space) and env.max_steps == 5
    trajectory = stream(env)
    assert trajectory.truncated.any()
    np.testing.assert_array_equal(trajectory.time[:6, 0], [0, 1, 2, 3, 4, 0])


# Jumanji's BinPack writes real numbers into whole ones, of which jax says that it will be an error.
SCATTERS = pytest.mark.filterwarnings("ignore:scatter inputs have incompatible types:FutureWarning")
OFFLINE = [
    pytest.param(name, marks=SCATTERS if name.startswith("BinPack") else ())
    for name in suite.names()
    if not name.startswith("Sokoban")
]


def test_where_the_declared_space_is_not_what_is_given():
    env = envs.make("jumanji:TSP-v1")
    assert jax.eval_shape(env.reset, jax.random.key(0), env.params)[1]["position"].shape == ()
    assert env.observation_space.spaces["position"].low == -1
    assert envs.make("jumanji:MultiCVRP-v0").action_space.nvec.tolist() == [21, 21]


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFLINE)
def test_every_name_keeps_the_rules(name):
    env, world = envs.make(f"jumanji:{name}"), jumanji.make(name)
    testing.check_env(env, steps=3)
    legal(env.observation_space, env.action_space)  # which raises where the mask hasn't the form of the actions
    limited = hasattr(world, "time_limit") or name.startswith("Game2048")
    steps = episode(env, *own(world), most=30 if limited else 10_000)
    assert limited or steps[-1].terminated


def test_sokoban_with_levels_that_are_at_hand():
    from jumanji.environments import Sokoban
    from jumanji.environments.routing.sokoban.generator import ToyGenerator

    world = Sokoban(generator=ToyGenerator(), time_limit=6)
    steps = episode(suite.from_jumanji(world), *own(world))
    assert len(steps) == 6 and steps[-1].truncated
    # Its viewer leaves the files of its pictures open, which is said of whichever test they are collected in.
    del world
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_bad_names_and_arguments_are_one_line():
    for name, given, message in (
        ("jumanji:Snak-v1", {}, "no environment 'jumanji:Snak-v1'; did you mean 'jumanji:Snake-v1'?"),
        (SNAKE, {"time_limt": 5}, f"{SNAKE} takes no parameter 'time_limt'; did you mean 'time_limit'?"),
        (SNAKE, {"time_limit": 0}, f"{SNAKE}: time_limit=0 is no time limit; give a whole number"),
        (SNAKE, {"num_rows": 4.0}, f"{SNAKE}: num_rows=4.0 must be like its default 12"),
    ):
        with pytest.raises(ValueError) as caught:
            envs.make(name, **given)
        assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    from jumanji.wrappers import AutoResetWrapper

    with pytest.raises(ValueError, match="jumanji: take AutoResetWrapper off the environment"):
        suite.from_jumanji(AutoResetWrapper(jumanji.make("Snake-v1")))

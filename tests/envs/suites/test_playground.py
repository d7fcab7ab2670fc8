"""MuJoCo Playground's environments against Playground itself, in MJX."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from package_loops import allowed, ends, played

from pgjax import envs, rollout, testing
from pgjax.config import Config
from pgjax.envs import registry
from pgjax.envs.suites import playground as ours
from pgjax.policies.registry import make

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    playground = pytest.importorskip("mujoco_playground")

NAME = "CartpoleBalance"
GOES_ON, TERMINATED, TRUNCATED = (False, False), (True, False), (False, True)


def own(name):
    """The reset and step of Playground."""
    world = playground.registry.load(name, config_overrides={"impl": "jax"})

    def reset(key):
        state = world.reset(key)
        return state, state.obs

    def step(key, state, action):
        state = world.step(state, action)
        return state, state.obs, state.reward, state.done > 0

    return reset, step


@pytest.mark.slow
def test_the_rules_are_kept():
    env = envs.make(f"playground:{NAME}", episode_length=6)
    # Op by op, a step of MJX takes a minute.
    testing.check_env(env._replace(reset=jax.jit(env.reset), step=jax.jit(env.step)), steps=8)


@pytest.mark.slow
def test_an_episode_is_playgrounds_own_and_its_limit_truncates():
    env = envs.make(f"playground:{NAME}", episode_length=6)
    # The sixth step is compared with Playground's, whose episode goes on. Two programs round otherwise.
    found = played(env, *own(NAME), 10, tolerance=1e-4)
    assert ends(found) == [GOES_ON] * 5 + [TRUNCATED] and env.max_steps == 6
    assert found[0].reward > 0


@pytest.mark.slow
def test_repeated_actions_pay_and_end_as_under_playgrounds_wrapper():
    """Its EpisodeWrapper, of Brax, without the resets around it."""
    from brax.envs.wrappers.training import EpisodeWrapper

    settings = {"episode_length": 5, "action_repeat": 2}
    env = envs.make(f"playground:{NAME}", **settings)
    world = EpisodeWrapper(playground.registry.load(NAME, config_overrides={"impl": "jax"}), **settings)
    key, actions = jax.random.key(4), jnp.array([[1.0], [-0.5], [0.25]])
    # Its counter has no axes only for a key of two numbers.
    theirs = allowed(world.reset)(jax.random.key_data(key))
    (state, _), advance, step = jax.jit(env.reset)(key, env.params), allowed(world.step), jax.jit(env.step)
    for action in actions:
        theirs, (state, seen) = advance(theirs, action), step(key, env.params, state, action)
        np.testing.assert_allclose(seen.obs, theirs.obs, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(seen.reward, theirs.reward, rtol=1e-5)
        assert bool(seen.truncated) == bool(theirs.info["truncation"]) == bool(theirs.done) and not seen.terminated
    assert seen.truncated and env.max_steps == 3


@pytest.mark.slow
def test_a_state_that_is_not_a_number_terminates_and_strong_actions_are_clipped():
    env = envs.make(f"playground:{NAME}")
    key, step = jax.random.key(0), jax.jit(env.step)
    state, _ = jax.jit(env.reset)(key, env.params)
    strong, one = (step(key, env.params, state, jnp.full(1, x))[1] for x in (5.0, 1.0))
    np.testing.assert_array_equal(strong.obs, one.obs)
    assert strong.reward == one.reward and not one.terminated
    data = state.world.data
    broken = state._replace(world=state.world.replace(data=data.replace(qvel=data.qvel * jnp.nan)))
    _, seen = step(key, env.params, broken, jnp.zeros(1))
    assert (bool(seen.terminated), bool(seen.truncated)) == TERMINATED


@pytest.mark.slow
def test_lanes_of_episodes_begin_anew_after_the_limit():
    env = envs.make(f"playground:{NAME}", episode_length=3)
    policy = make(env, Config(hidden=(4,)))

    def unrolled(key):
        params = policy.init(key)
        return rollout.unroll(key, env, policy, params, rollout.start(key, env, policy, 2), 5)[1]

    seen = jax.jit(unrolled)(jax.random.key(0))
    np.testing.assert_array_equal(seen.truncated[:, 0], [0, 0, 1, 0, 0])
    np.testing.assert_array_equal(seen.time[:, 1], [0, 1, 2, 0, 1])
    assert not seen.terminated.any()
    np.testing.assert_array_equal(seen.next_obs[:2], seen.obs[1:3])
    assert (seen.next_obs[2] != seen.obs[3]).any()


def test_a_step_leaves_the_state_that_it_is_given_as_it_was():
    """Playground writes into its dicts."""
    env = envs.make(f"playground:{NAME}")

    def stepped(key):
        state, _ = env.reset(key, env.params)
        before = dict(state.world.metrics)
        env.step(key, env.params, state, jnp.zeros(1))
        assert before and all(state.world.metrics[name] is before[name] for name in before)

    jax.eval_shape(stepped, jax.random.key(0))


def test_names_and_settings():
    assert {NAME, "HumanoidRun", "Go1JoystickFlatTerrain"} <= set(ours.names())
    known = registry.settable(f"playground:{NAME}")
    assert known["episode_length"] == 1000 and known["impl"] == "jax" and known["ctrl_dt"] == 0.01
    assert known["vision_config.nworld"] == 1024
    assert envs.make("playground:PendulumSwingup", ctrl_dt=0.04).max_steps == 1000


@pytest.mark.parametrize(
    "name, given, message",
    [
        ("CartpoleBalanc", {}, "no environment 'playground:CartpoleBalanc'; did you mean 'playground:CartpoleBalance'"),
        (NAME, {"episode_len": 3}, "playground:CartpoleBalance takes no parameter 'episode_len'; did you mean 'epi"),
        (NAME, {"episode_length": 0}, "playground:CartpoleBalance: episode_length=0 is no time limit; give a whole"),
        (NAME, {"impl": "cuda"}, "playground:CartpoleBalance can't be made: ValueError: "),
    ],
)
def test_bad_names_and_arguments_are_one_line(name, given, message):
    with pytest.raises(ValueError) as caught:
        envs.make(f"playground:{name}", **given)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_a_wrapped_environment_is_refused():
    world = playground.registry.load(NAME, config_overrides={"impl": "jax"})
    with pytest.raises(ValueError, match="playground: take BraxAutoResetWrapper off the environment"):
        ours.from_playground(playground.wrapper.wrap_for_brax_training(world))

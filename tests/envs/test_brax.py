"""Brax worlds against Brax itself, and trained in."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgjax
from pgjax import rollout, testing
from pgjax.config import Config
from pgjax.envs import brax

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    envs = pytest.importorskip("brax.envs")

# What it says of itself, and of a mujoco that is newer than it.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{x}") for x in ("Brax System:UserWarning", "Accessing:DeprecationWarning")
]


def test_the_smallest_world_keeps_the_rules_and_its_time_limit_truncates():
    env = brax.from_name("fast", episode_length=4)
    testing.check_env(env)
    state, _ = env.reset(jax.random.key(0), env.params)
    ends = []
    for i in range(4):
        state, seen = env.step(jax.random.key(i), env.params, state, jnp.ones(1))
        ends.append((bool(seen.terminated), bool(seen.truncated)))
    assert ends == [(False, False)] * 3 + [(False, True)]


@pytest.mark.slow
def test_episodes_are_braxs_own_until_the_pole_falls_which_terminates():
    env, world = brax.from_name("brax:inverted_pendulum"), envs.get_environment("inverted_pendulum", backend="spring")
    state, obs = jax.jit(env.reset)(jax.random.key(3), env.params)
    # Brax adds arrays of other ranks, which the tests forbid.
    begin, theirs = (jax.jit(jax.numpy_rank_promotion("allow")(f)) for f in (world.reset, world.step))
    expected, step = begin(jax.random.key(3)), jax.jit(env.step)
    for i in range(100):
        # Two programs, which round otherwise.
        np.testing.assert_allclose(obs, expected.obs, rtol=1e-4, atol=1e-4)
        # Stronger than 1 is 1.
        state, seen = step(jax.random.key(i), env.params, state, jnp.full(1, 5.0))
        expected, obs = theirs(expected, jnp.ones(1)), seen.obs
        assert seen.reward == expected.reward and seen.reward.dtype == jnp.float32
        if seen.terminated:
            break
    assert i < 99 and expected.done == 1 and not seen.truncated and abs(obs[1]) > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inverted_pendulum", "reacher"])
def test_worlds_keep_the_rules(name):
    testing.check_env(brax.from_name(name))


@pytest.mark.slow
def test_whole_episodes_and_training():
    settings = {"hidden": (8,), "num_envs": 4, "num_steps": 8, "num_minibatches": 1, "eval_episodes": 4}
    settings["env.episode_length"] = 30
    result = pgjax.run("ppo", "brax:inverted_pendulum", seeds=2, updates=3, settings=settings, progress=False)
    env, *_ = result.lane(seed=0)
    assert env.max_steps == 30
    assert np.isfinite(result.metrics["episode_return"]).any()
    assert not result.summary["failed_lanes"]
    policy = pgjax.policies.make(env, Config(hidden=(8,)))
    params = policy.init(jax.random.key(0))
    found = jax.jit(lambda k: rollout.evaluate(k, env, policy, params, 8))(jax.random.key(1))
    # A step that ends an episode pays too.
    np.testing.assert_array_equal(found.episode_return, found.episode_length)
    assert (found.episode_length <= 30).all()


def test_bad_names_and_arguments_are_one_line():
    for name, given, message in (
        ("brax:antt", {}, "no environment 'brax:antt'; did you mean 'brax:ant'?"),
        ("fast", {"backend": "spirng"}, "backend: brax has no 'spirng'; did you mean 'spring'?"),
        ("fast", {"episode_length": 0}, "episode_length must be 1 or more, got 0"),
        ("brax:ant", {"ctrl_cost": 0.1}, "brax:ant takes no parameter 'ctrl_cost'; did you mean 'ctrl_cost_weight'?"),
    ):
        with pytest.raises(ValueError) as caught:
            brax.from_name(name, **given)
        assert str(caught.value) == message
    with pytest.raises(ValueError, match=r"brax: the observation must be an array \[D\]"):
        brax.from_brax(envs.get_environment("fast", obs_mode="dict_state"))

"""Environments of jax-envelope, of the suite gymnax, against envelope itself."""

import warnings
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from package_loops import ends, played

from pgjax import envs, rollout, testing
from pgjax.config import Config
from pgjax.envs import observations, registry
from pgjax.envs.suites import envelope as ours
from pgjax.policies.registry import make

envelope = pytest.importorskip("envelope")
if not hasattr(envelope, "create"):
    pytest.skip("another package of this name", allow_module_level=True)

GOES_ON, TERMINATED, TRUNCATED = (False, False), (True, False), (False, True)


def own(name):
    """The reset and step of envelope, without a limit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        world = envelope.create(name, max_episode_steps=None)

    def reset(key):
        state, info = world.init(key)
        return state, info.obs

    def step(key, state, action):
        state, info = world.step(state, action)
        return state, info.obs, info.reward, info.terminated

    return reset, step


def test_an_episode_is_envelopes_own_until_the_pole_falls_which_terminates():
    env = envs.make("envelope:gymnax::CartPole-v1")
    testing.check_env(env)
    found = played(env, *own("gymnax::CartPole-v1"), 200)
    assert ends(found) == [GOES_ON] * (len(found) - 1) + [TERMINATED] and len(found) < 200
    assert env.max_steps == 500 and env.action_space.n == 2


def test_the_limit_truncates_at_the_observation_of_the_episode_that_ended():
    env = envs.make("envelope:gymnax::CartPole-v1", max_episode_steps=4)
    found = played(env, *own("gymnax::CartPole-v1"), 10)
    assert ends(found) == [GOES_ON] * 3 + [TRUNCATED] and env.max_steps == 4
    policy = make(env, Config(hidden=(4,)))

    def unrolled(key):
        params = policy.init(key)
        return rollout.unroll(key, env, policy, params, rollout.start(key, env, policy, 2), 6)[1]

    seen = jax.jit(unrolled)(jax.random.key(0))
    np.testing.assert_array_equal(seen.truncated[:, 0], [0, 0, 0, 1, 0, 0])
    np.testing.assert_array_equal(seen.time[:, 1], [0, 1, 2, 3, 0, 1])
    np.testing.assert_array_equal(seen.next_obs[:3], seen.obs[1:4])
    assert (seen.next_obs[3] != seen.obs[4]).all() and not seen.terminated.any()


def test_a_fall_at_the_limit_is_terminated_alone_where_envelope_says_both():
    push = lambda key, obs: jnp.int32(1)  # noqa: E731
    length = len(played(envs.make("envelope:gymnax::CartPole-v1"), *own("gymnax::CartPole-v1"), 50, choose=push))
    env = envs.make("envelope:gymnax::CartPole-v1", max_episode_steps=length)
    assert ends(played(env, *own("gymnax::CartPole-v1"), 50, choose=push))[-1] == TERMINATED
    both = envelope.create("gymnax::CartPole-v1", max_episode_steps=length)
    state, _ = both.init(jax.random.key(0))
    step = jax.jit(both.step)
    for _ in range(length):
        state, info = step(state, jnp.int32(1))
    assert info.terminated and info.truncated


class Shown(NamedTuple):
    board: jax.Array
    action_mask: jax.Array


class Counter(envelope.Environment):
    """A board that counts steps, beside a mask; two choices at once."""

    @cached_property
    def observation_space(self):
        two = jnp.full((2, 3), 2, jnp.int8)
        tree = Shown(envelope.Continuous.from_shape(0.0, 9.0, (3,)), envelope.Discrete(two))
        return envelope.PyTreeSpace(tree)

    @cached_property
    def action_space(self):
        return envelope.Discrete(jnp.array([3, 2]))

    def init(self, key):
        return 0, envelope.InfoContainer(self.shown(0), 0.0, False)

    def step(self, state, action):
        state = state + 1
        return state, envelope.InfoContainer(self.shown(state), action[0] + 10 * action[1], state >= 5)

    def shown(self, state):
        return Shown(jnp.full(3, state, jnp.float32), jnp.ones((2, 3), jnp.int8))


def test_records_become_dicts_and_several_choices_a_multi_discrete():
    env = ours.from_envelope(Counter(), 7)
    testing.check_env(env)
    assert env.action_space.nvec.tolist() == [3, 2]
    assert observations.has_mask(env.observation_space) and observations.content(env.observation_space).shape == (3,)
    observations.check_mask(env.observation_space, env.action_space)
    state, obs = env.reset(jax.random.key(0), env.params)
    assert set(obs) == {"board", "action_mask"} and obs["action_mask"].dtype == jnp.int8
    _, seen = env.step(jax.random.key(0), env.params, state, jnp.array([2, 1]))
    assert seen.reward == 12 and seen.reward.dtype == jnp.float32 and (seen.obs["board"] == 1).all()


def test_names_and_settings():
    assert "gymnax::CartPole-v1" in ours.names()
    assert registry.settable("envelope:gymnax::CartPole-v1") == {"max_episode_steps": 500}
    with pytest.raises(ValueError) as caught:
        ours.from_envelope(envelope.create("gymnax::CartPole-v1"), 5)
    assert str(caught.value).startswith("envelope: take TruncationWrapper off the environment; resets, time limits")
    with pytest.raises(TypeError, match="envelope: expected an envelope environment, got str"):
        ours.from_envelope("gymnax::CartPole-v1", 5)


@pytest.mark.parametrize(
    "name, given, message",
    [
        (
            "gymnax::CartPole-v2",
            {},
            "no environment 'envelope:gymnax::CartPole-v2'; did you mean 'envelope:gymnax::Cart",
        ),
        (
            "gymnx::CartPole-v1",
            {},
            "no environment 'envelope:gymnx::CartPole-v1'; did you mean 'envelope:gymnax::NAME'?",
        ),
        ("CartPole-v1", {}, "no environment 'envelope:CartPole-v1'; choose from envelope:brax::NAME, "),
        ("kinetix::s", {}, "envelope:kinetix::s: can't import the package of the suite kinetix: No module"),
        (
            "gymnax::CartPole-v1",
            {"max_episode_steps": 0},
            "envelope:gymnax::CartPole-v1: max_episode_steps=0 is no time",
        ),
        ("gymnax::CartPole-v1", {"mass": 1}, "envelope:gymnax::CartPole-v1 can't be made: TypeError: "),
    ],
)
def test_bad_names_and_arguments_are_one_line(name, given, message):
    with pytest.raises(ValueError) as caught:
        envs.make(f"envelope:{name}", **given)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)

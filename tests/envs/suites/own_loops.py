"""What the tests of suites share: an episode in pgjax beside one by the package's own functions; a uniform policy."""

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import rollout
from pgjax.envs import spaces
from pgjax.envs.observations import MASK
from pgjax.envs.suites.common import plain
from pgjax.types import Policy


class Uniform(NamedTuple):
    """Uniformly random actions of a space, [B]."""

    space: Any
    size: int

    def sample(self, key):
        return jax.vmap(lambda k: spaces.sample(self.space, k))(jax.random.split(key, self.size))

    def log_prob(self, action):
        return jnp.zeros(self.size)


def of_each_kind(names):
    """The first name of those that differ by numbers alone: CI has no time for all sizes of a world."""
    return list({re.sub(r"\d+", "", name): name for name in reversed(names)}.values())[::-1]


def uniform(env):
    def act(params, memory, obs):
        return Uniform(env.action_space, jax.tree.leaves(obs)[0].shape[0]), memory

    return Policy(init=lambda key: (), memory=lambda size: (), act=act, evaluate=None)


def stream(env, num_steps=12, num_envs=2, seed=0):
    """The trajectory [T, B] of a uniform policy, by `rollout.unroll`."""
    policy = uniform(env)

    def run(key):
        return rollout.unroll(key, env, policy, (), rollout.start(key, env, policy, num_envs), num_steps)[1]

    return jax.jit(run)(jax.random.key(seed))


def drawn(env, key, obs):
    """A random action, a legal one where the observation says which are."""
    if not isinstance(obs, dict) or MASK not in obs:
        return spaces.sample(env.action_space, key)
    return jnp.argmax(jnp.where(obs[MASK], jax.random.uniform(key, obs[MASK].shape), -1.0), axis=-1)


def same(one, other):
    """Equal trees, of equal types; real numbers but for rounding, since these are two programs."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype, (a.dtype, b.dtype)
        np.testing.assert_allclose(a, b, rtol=1e-6 if jnp.issubdtype(a.dtype, jnp.floating) else 0, atol=1e-7)


def within(space, obs):
    """Every number of the observation lies within the bounds of its space."""
    inside = getattr(space, "spaces", None)
    if inside is not None:
        assert obs.keys() == inside.keys()
        for name, part in inside.items():
            within(part, obs[name])
        return
    assert obs.dtype == space.dtype and obs.shape == tuple(space.shape)
    obs = np.asarray(obs)
    assert np.all(obs >= np.asarray(space.low)) and np.all(obs <= np.asarray(space.high)), (space.low, obs, space.high)


def compiled(function):
    """The jitted function of a package's: packages add arrays of different ranks, which the tests forbid."""
    return jax.jit(jax.numpy_rank_promotion("allow")(function))


def episode(env, reset, step, seed=0, act=drawn, most=100_000):
    """One episode in pgjax, each step held against the package's own; the steps.

    Args:
      reset: key -> (state, obs), step: (key, state, action) -> (state, obs, reward), all of the package's own kinds.
    """
    reset, step = compiled(reset), compiled(step)
    key, act = jax.random.key(seed), jax.jit(lambda k, obs, act=act: act(env, k, obs))
    (state, obs), (own, expected), ours = jax.jit(env.reset)(key, env.params), reset(key), jax.jit(env.step)
    seen, steps = None, []
    for i in range(min(env.max_steps, most)):
        same(obs, plain(expected))
        within(env.observation_space, obs)
        key_action, key_step = jax.random.split(jax.random.fold_in(key, i))
        action = act(key_action, obs)
        state, seen = ours(key_step, env.params, state, action)
        own, expected, reward = step(key_step, own, action)
        same(seen.reward, jnp.float32(reward))
        obs, steps = seen.obs, [*steps, seen]
        if seen.terminated | seen.truncated:
            break
    same(obs, plain(expected))
    within(env.observation_space, obs)
    return steps

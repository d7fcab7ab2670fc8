"""Plays an adapted environment beside the package's own functions."""

import jax
import numpy as np

from pgjax.envs import spaces


def allowed(function):
    """The function compiled, with the rank promotion that the tests forbid and other packages need."""
    return jax.jit(jax.numpy_rank_promotion("allow")(function))


def same(ours, theirs, tolerance):
    for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert x.shape == y.shape
        np.testing.assert_allclose(np.asarray(x, float), np.asarray(y, float), rtol=tolerance, atol=tolerance)


def played(env, reset, step, steps, *, seed=0, tolerance=0.0, choose=None):
    """The Steps of one episode, each asserted to equal the other's; it stops at an end, after at most `steps`.

    Args:
      reset: key -> (state, obs).
      step: (key, state, action) -> (state, obs, reward, whether the package says that the episode ended itself).
      choose: (key, obs) -> action; by default a uniform one.
    """
    key = jax.random.key(seed)
    choose = choose or (lambda key, obs: spaces.sample(env.action_space, key))
    ours, theirs = jax.jit(env.step), allowed(step)
    state, obs = jax.jit(env.reset)(key, env.params)
    own, expected = allowed(reset)(key)
    same(obs, expected, tolerance)
    found = []
    for i in range(steps):
        key_action, key_step = jax.random.split(jax.random.fold_in(key, i))
        action = choose(key_action, obs)
        state, seen = ours(key_step, env.params, state, action)
        own, expected, reward, done = theirs(key_step, own, action)
        obs = seen.obs
        same(obs, expected, tolerance)
        same(seen.reward, np.reshape(reward, ()), tolerance)
        assert bool(seen.terminated) == bool(done) and not (seen.terminated and seen.truncated)
        assert seen.reward.dtype == np.float32
        found.append(seen)
        if seen.terminated or seen.truncated:
            break
    return found


def ends(found):
    """(Terminated, truncated) of every step."""
    return [(bool(x.terminated), bool(x.truncated)) for x in found]

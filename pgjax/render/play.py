"""Plays one whole episode with a policy, and keeps all its states."""

import contextlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.numerics import time_limits
from pgjax.numerics.scans import scan_while
from pgjax.training.host_loop import Worlds
from pgjax.types import Array, Env, Policy, PyTree


class Episode(NamedTuple):
    """One whole episode, on the host: numpy arrays."""

    states: PyTree  # [T + 1, ...] the first one included; () of an environment that is stepped in Python
    obs: PyTree  # [T + 1, ...]
    action: PyTree  # [T, ...]
    reward: np.ndarray  # [T]
    terminated: bool  # by the environment; otherwise the time ran out
    seed: int = 0  # of an environment that is stepped in Python


def play(key: Array, env: Env, policy: Policy, params: PyTree, greedy: bool = False) -> Episode:
    """Play one episode from its first state to its end.

    Args:
      greedy: take the mode of each distribution; otherwise actions are sampled.
    """
    key_start, key_steps = jax.random.split(key)
    keys = jax.random.split(key_steps, env.max_steps)
    return (_hosted if env.host else _pure)(key_start, keys, env, policy, params, greedy)


def _pure(key_start: Array, keys: Array, env: Env, policy: Policy, params: PyTree, greedy: bool) -> Episode:
    def step(carry, inputs):
        state, obs, memory, _ = carry
        key, t = inputs
        key_action, key_env = jax.random.split(key)
        dist, memory = policy.act(params, memory, jax.tree.map(lambda x: x[None], obs))
        action = jax.tree.map(lambda x: x[0], dist.mode() if greedy else dist.sample(key_action))
        state, seen = env.step(key_env, env.params, state, action)
        seen = time_limits.cut(seen, t, env.max_steps)
        done = seen.terminated | seen.truncated
        return (state, seen.obs, memory, done), (state, seen.obs, action, seen.reward, seen.terminated, done)

    # A loop of one, so that it is compiled as a whole and not operation by operation.
    state, obs = jax.tree.map(lambda x: x[0], jax.lax.map(lambda key: env.reset(key, env.params), key_start[None]))
    carry = (state, obs, policy.memory(1), jnp.bool_(False))
    # What follows the end is cut off below: elsewhere than on a CPU the scan goes on to the time limit.
    _, rows = scan_while(step, carry, (keys, jnp.arange(env.max_steps)), lambda carry, _: ~carry[3])
    *rows, done = jax.tree.map(np.asarray, rows)
    length = int(np.argmax(done)) + 1
    states, seen, action, reward, terminated = jax.tree.map(lambda x: x[:length], rows)
    return Episode(_behind(state, states), _behind(obs, seen), action, reward, bool(terminated[-1]))


def _hosted(key_start: Array, keys: Array, env: Env, policy: Policy, params: PyTree, greedy: bool) -> Episode:
    assert env.host is not None
    seed = int(jax.random.bits(key_start))
    memory, rows = policy.memory(1), []
    with contextlib.closing(Worlds(env.host, env.max_steps, 1)) as world:
        now = first = world.reset(np.array([seed], np.uint32))
        for key in keys:
            dist, memory = policy.act(params, memory, now)
            action = jax.tree.map(np.asarray, dist.mode() if greedy else dist.sample(jax.random.split(key)[0]))
            now, seen = world.step(action)
            rows.append(jax.tree.map(lambda x: x[0], (seen.obs, action, seen.reward)))
            if seen.terminated[0] or seen.truncated[0]:
                break
    obs, action, reward = jax.tree.map(lambda *x: np.stack(x), *rows)
    first = jax.tree.map(lambda x: x[0], first)
    return Episode((), _behind(first, obs), action, reward, bool(seen.terminated[0]), seed)


def _behind(first: PyTree, others: PyTree) -> PyTree:
    return jax.tree.map(lambda x, y: np.concatenate([np.asarray(x)[None], y]), first, others)

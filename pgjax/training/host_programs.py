"""The compiled parts of an update (act, learn) for environments that are stepped in Python. `host_loop` calls them.

`act` is compiled for one step of all lanes, `learn` for one update. Keys are split as `train` and `rollout` split
them, so an environment that needs no seed gives the same results as `vectorised`.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgjax import rollout
from pgjax.training import loop, vectorised
from pgjax.types import Array, Env, Hypers, Learner, Policy, PyTree, Step, Trajectory


class Draw(NamedTuple):
    """The random draws of a rollout, made before it."""

    seeds: Array  # [L, B] uint32 of the environments, for those that begin anew
    keys: Array  # [T, L] of the actions


def draw(keys: Array, updates: Array, num_envs: int, num_steps: int, whole: bool) -> Draw:
    """The draws for update `updates` [L] of the lanes `keys` [L]; `whole` where rollouts are whole episodes."""

    def one(key, update):
        key, _ = jax.random.split(jax.random.fold_in(key, update))
        if whole:
            key_start, key_steps = jax.random.split(key)
            return _drawn(key_start, jax.random.split(key_steps, num_steps), num_envs)
        keys = jax.random.split(key, (num_steps, 1 + 2 * num_envs))
        # The keys of the first step's resets, which only environments in JAX use otherwise.
        return jax.vmap(jax.random.bits)(keys[0, 1 + num_envs :]), keys[:, 0]

    return Draw(*jax.vmap(one, out_axes=(0, 1))(keys, updates))


def draw_evaluation(keys: Array, num_episodes: int, num_steps: int) -> tuple[Draw, Draw]:
    """The draws for the stochastic and for the greedy episodes of the lanes `keys` [L]."""

    def one(key):
        key_start, key_steps = jax.random.split(key)
        steps = jax.vmap(lambda t: jax.random.fold_in(key_steps, t))(jnp.arange(num_steps))
        return _drawn(key_start, steps, num_episodes)

    both = jax.vmap(vectorised.evaluation_keys)(keys)
    stochastic, greedy = (Draw(*jax.vmap(one, out_axes=(0, 1))(both[:, kind])) for kind in range(2))
    return stochastic, greedy


def _drawn(key_start: Array, keys: Array, count: int) -> tuple[Array, Array]:
    seeds = jax.vmap(jax.random.bits)(jax.random.split(key_start, count))
    return seeds, jax.vmap(lambda key: jax.random.split(key, 1 + count)[0])(keys)


PolicyOf = Callable[[PyTree], tuple[Policy, PyTree]]  # a learner's state -> a policy and its parameters


def act(
    policy_of: PolicyOf,
    keys: Array,
    t: Array | int,
    states: PyTree,
    memory: PyTree,
    time: Array,
    obs: PyTree,
    greedy: Array | bool,
) -> tuple[Array, Array, PyTree]:
    """Actions [L, B, ...] of step t, their log-probability [L, B], and the memory after it [L, B, ...].

    Args:
      policy_of: a learner's `behaviour` or `policy`, of its states [L, ...].
      keys: [T, L]; time: [L, B] steps since the episodes began; at time 0 the memory starts fresh.
      greedy: [] bool: take the mode.
    """

    def one(key, state, memory, time, obs):
        policy, params = policy_of(state)
        dist, memory = policy.act(params, _begun(policy, time, memory), obs)
        action = jax.tree.map(functools.partial(jnp.where, greedy), dist.mode(), dist.sample(key))
        return action, dist.log_prob(action), memory

    return jax.vmap(one)(keys[t], states, memory, time, obs)


def learn(
    learner: Learner, keys: Array, states: PyTree, hypers: Hypers, stream: PyTree, rows: Trajectory
) -> tuple[PyTree, dict[str, Array]]:
    """One update of every lane by its own rollout; metrics are [L, 1].

    Args:
      stream: RolloutState [L, ...] after the rows, or (); rows: [L, T, B, ...], their memory still ().
    """

    behaviour, update = learner.behaviour, learner.learn
    if behaviour is None or update is None:
        raise ValueError("the learner has no behaviour and learn; use an environment of JAX functions")

    def one(key, state, hypers, stream, rows):
        policy, _ = behaviour(state.learner)
        before = state.learner.rollout.memory if stream else policy.memory(rows.time.shape[-1])
        rows = rows._replace(memory=_begun(policy, rows.time[0], before))
        if stream:
            stream = stream._replace(memory=_begun(policy, stream.time, stream.memory))

        def step(key, state, hypers):
            _, key_update = jax.random.split(key)
            return update(key_update, state, stream, rows, hypers)

        # `train` chooses the key of the update, and undoes an update that isn't finite.
        return loop.train(key, learner._replace(update=step), state, hypers, 1)

    return jax.vmap(one)(keys, states, hypers, stream, rows)


def beginning(policy_of: PolicyOf, env: Env, states: PyTree, num_envs: int) -> tuple[PyTree, PyTree, PyTree]:
    """The shapes of memory, time and obs [L, B, ...], for a learner's states [L, ...]."""

    def one(state):
        _, obs = jax.vmap(env.reset, (0, None))(jax.random.split(jax.random.key(0), num_envs), env.params)
        return policy_of(state)[0].memory(num_envs), jnp.zeros(num_envs, jnp.int32), obs

    return jax.eval_shape(jax.vmap(one), states)


def gathered(
    policy_of: PolicyOf, keys: Array, states: PyTree, now: tuple[PyTree, PyTree, PyTree], num_steps: int
) -> Trajectory:
    """The shapes of the rows [L, T, B, ...] that `learn` takes; `now` holds the shapes of memory, time and obs."""

    def make(keys, states, memory, time, obs):
        action, log_prob, _ = act(policy_of, keys, 0, states, memory, time, obs, False)
        number, flag = jnp.zeros(time.shape, jnp.float32), time > 0
        rows = rollout.row(obs, time, action, log_prob, Step(obs, number, flag, flag), number)
        return jax.tree.map(lambda x: jnp.repeat(x[:, None], num_steps, axis=1), rows)

    return jax.eval_shape(make, keys, states, *now)


def _begun(policy: Policy, time: Array, memory: PyTree) -> PyTree:
    return rollout.where(time == 0, policy.memory(time.shape[0]), memory)

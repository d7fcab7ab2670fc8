"""Conformance checks of environments and policies."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import envs, rollout
from pgjax.algorithms.acting import check_acting, check_evaluation
from pgjax.config import Config
from pgjax.envs import spaces
from pgjax.policies.registry import make
from pgjax.testing.common import close, kind, require, required, same_kinds
from pgjax.training import failures
from pgjax.types import Batch, Env, Policy


def check_env(env: Env, steps: int = 20) -> None:
    """Pure, of fixed shapes and types, scalars where scalars belong, never terminated and truncated at once.

    Observations and actions may be trees: of a Dict dicts, of a Tuple tuples, else what the space's `sample` gives.
    """
    require(not env.host, "check_env steps JAX environments; this one is stepped in Python")
    key = jax.random.key(0)
    state, obs = env.reset(key, env.params)
    first = state, obs
    require(
        spaces.holds(env.observation_space, obs),
        f"reset gave obs {spaces.told(obs)}, the space says {env.observation_space!r}",
    )
    require(isinstance(env.max_steps, int) and env.max_steps > 0, f"max_steps is {env.max_steps!r}, not a positive int")
    step = jax.jit(env.step)
    for i in range(steps):
        key_action, key_step = jax.random.split(jax.random.fold_in(key, i))
        action = spaces.sample(env.action_space, key_action)
        following, seen = step(key_step, env.params, state, action)
        if i == 0:
            again = env.step(key_step, env.params, state, action)
            require(close((following, seen), again), "jit and eager steps differ: is the step pure?")
        got = following, seen.obs
        require(same_kinds(got, first), f"step changes shapes or types: {spaces.told(first)} became {spaces.told(got)}")
        for field, dtype in (("reward", jnp.float32), ("terminated", bool), ("truncated", bool)):
            require(
                kind(getattr(seen, field)) == ((), jnp.dtype(dtype)),
                f"step gave {field} {kind(getattr(seen, field))}, expected a scalar {jnp.dtype(dtype)}",
            )
        require(not (seen.terminated & seen.truncated), "a step is terminated and truncated at once")
        require(failures.all_finite((following, seen)), "a number is not finite")
        state = following
        if seen.terminated | seen.truncated:
            state, _ = env.reset(key_step, env.params)


def check_policy(policy: Policy, env: Env, num_envs: int = 3, num_steps: int = 12) -> None:
    """Shapes [T, B], of the distribution too; what `evaluate` says of a rollout is what `act` said on the way."""
    key = jax.random.key(0)
    with required():
        check_acting(env, policy)
    params = jax.jit(policy.init)(key)
    stream = jax.jit(lambda: rollout.start(key, env, policy, num_envs))()
    following, trajectory = jax.jit(lambda p, s: rollout.unroll(key, env, policy, p, s, num_steps))(params, stream)
    if policy.whole_episodes:
        num_steps = env.max_steps
        trajectory, _ = jax.jit(lambda p: rollout.episodes(key, env, policy, p, num_envs))(params)
    now = jax.jit(policy.evaluate)(params, trajectory)
    with required():
        check_evaluation(now, (num_steps, num_envs))
    require(
        close(now.log_prob * trajectory.mask, trajectory.log_prob * trajectory.mask, 1e-4),
        "evaluate and act give other log-probabilities for the same step",
    )
    require(same_kinds(stream.memory, following.memory), "act changes the memory's shapes or types")
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(policy.evaluate(p, trajectory).log_prob)))(params)
    require(failures.all_finite(gradient), "the gradient of log_prob is not finite")


@functools.cache
def _example() -> tuple[Policy, Any, Batch]:
    env = envs.make("TabularMDP-pgjax", terminal=np.arange(5) == 4)
    return example(make(env, Config(critic="action_value")), env)  # has whatever a plug may ask for


def example(policy: Policy | None = None, env: Env | None = None) -> tuple[Policy, Any, Batch]:
    """A small policy, its parameters and a batch [T, B] of whole episodes with steps after their ends.

    The parameters are others than those that acted, so probability ratios differ from 1.
    """
    if policy is None and env is None:
        return _example()
    if policy is None or env is None:
        raise ValueError("give both policy and env, or neither")

    def build(key):
        key_params, key_other, key_episodes, key_batch = jax.random.split(key, 4)
        params = policy.init(key_params)
        trajectory, _ = rollout.episodes(key_episodes, env, policy, params, 4, min(env.max_steps, 12))
        leaves, tree = jax.tree.flatten(params)
        keys = jax.random.split(key_other, len(leaves))
        moved = [x + 0.3 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
        params = jax.tree.unflatten(tree, moved)
        advantage, target = jax.random.normal(key_batch, (2, *trajectory.mask.shape))
        then = policy.evaluate(params, trajectory)
        return params, Batch(trajectory, advantage, target, then.value, then)

    return policy, *jax.jit(build)(jax.random.key(0))

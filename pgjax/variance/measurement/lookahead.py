"""Keeps the states of an environment beside its observations, and estimates Q one step ahead from them."""

import jax
import jax.numpy as jnp

from pgjax.numerics import time_limits
from pgjax.policies.traits import has_memory
from pgjax.types import Array, Env, Policy, PyTree, Trajectory


def with_states(env: Env, policy: Policy) -> tuple[Env, Policy]:
    """The pair whose observations are `{"obs": obs, "state": the environment's state}`; the policy reads "obs" alone.

    So `rollout.episodes` of the pair keeps the states [T, B, ...] that each step started from. The observation
    space stays that of "obs".
    """

    def reset(key, params):
        state, obs = env.reset(key, params)
        return state, {"obs": obs, "state": state}

    def step(key, params, state, action):
        state, seen = env.step(key, params, state, action)
        return state, seen._replace(obs={"obs": seen.obs, "state": state})

    def act(params, memory, obs):
        return policy.act(params, memory, obs["obs"])

    def evaluate(params, trajectory):
        return policy.evaluate(params, split(trajectory)[0])

    return env._replace(reset=reset, step=step), policy._replace(act=act, evaluate=evaluate)


def split(trajectory: Trajectory) -> tuple[Trajectory, PyTree]:
    """(the trajectory with plain observations, the states [T, B, ...] that its steps started from)."""
    plain = trajectory._replace(obs=trajectory.obs["obs"], next_obs=trajectory.next_obs["obs"])
    return plain, trajectory.obs["state"]


def action_values(
    key: Array,
    env: Env,
    policy: Policy,
    params: PyTree,
    trajectory: Trajectory,
    states: PyTree,
    discount: Array,
) -> Array:
    """Q_t(a) = r + gamma (1 - terminated) V(s'), [T, B, A]: each action tried once from each state; 0 after the end.

    The environment draws from `key`, independent of what the trajectory saw; V is the policy's own value. A
    step into the time limit bootstraps, a step into a terminal state does not (see `time_limits.discounts`).

    Args:
      trajectory: [T, B] with plain observations, and the states [T, B, ...] beside it: see `split`.

    Raises:
      ValueError: for an action space that is not Discrete, or a policy with memory.
    """
    space = env.action_space
    if not hasattr(space, "n"):
        raise ValueError(
            f"action_values tries every action, but the action space is {space!r}; use an environment with "
            "a Discrete action space, or a return that needs no Q of other actions, such as 'gae'"
        )
    if has_memory(policy):
        raise ValueError("action_values needs a policy without memory; use a network other than 'gru'")
    shape = trajectory.reward.shape
    step = jax.vmap(jax.vmap(env.step, (0, None, 0, None)), (0, None, 0, None))

    def value_of(inputs):
        key, action = inputs
        _, seen = step(jax.random.split(key, shape), env.params, states, action)
        ahead = trajectory._replace(obs=seen.obs, next_obs=seen.obs)
        bootstrap, _ = time_limits.discounts(seen.terminated, seen.truncated, discount)
        return seen.reward + bootstrap * policy.evaluate(params, ahead).value

    # One action at a time, so that memory is that of one trajectory and not of A.
    found = jax.lax.map(value_of, (jax.random.split(key, space.n), jnp.arange(space.n, dtype=jnp.int32)))
    return jnp.where(trajectory.mask[..., None] > 0, jnp.moveaxis(found, 0, -1), 0.0)

"""Rollouts: a policy acts in an environment, and the steps are a Trajectory [T, B].

`unroll` continues a stream of B environments that start again by themselves; `episodes` runs B whole
episodes, masked after their end; `evaluate` runs whole episodes and keeps only their returns.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgjax.numerics import time_limits
from pgjax.numerics.scans import remaining, scan_while
from pgjax.types import Array, Env, Policy, PyTree, Step, Trajectory


class RolloutState(NamedTuple):
    """The states of B environments, and the returns and lengths of their episodes."""

    env: PyTree  # [B, ...]
    obs: PyTree  # [B, ...]
    memory: PyTree  # [B, ...]
    time: Array  # [B] int: steps since the episode began
    running_return: Array  # [B] of the episode so far, undiscounted
    last_return: Array  # [B] of the latest completed episode; NaN before the first
    last_length: Array  # [B] of the latest completed episode; NaN before the first
    completed: Array  # [] number of episodes completed, as a float


class Episodes(NamedTuple):
    """Undiscounted returns and lengths of whole episodes, each [B]."""

    episode_return: Array
    episode_length: Array


def start(
    key: Array, env: Env, policy: Policy, num_envs: int, env_params: PyTree = None, samples: int = 1
) -> RolloutState:
    """B = `num_envs` environments at the start of an episode; every group of `samples` neighbours shares one start."""
    params = env.params if env_params is None else env_params
    if samples < 1 or num_envs % samples:
        raise ValueError(f"samples must be 1 or more and divide the {num_envs} environments, got {samples}")
    keys = jnp.repeat(jax.random.split(key, num_envs // samples), samples, axis=0)
    state, obs = jax.vmap(env.reset, (0, None))(keys, params)
    nothing = jnp.full(num_envs, jnp.nan, jnp.float32)
    return RolloutState(
        env=state,
        obs=obs,
        memory=policy.memory(num_envs),
        time=jnp.zeros(num_envs, jnp.int32),
        running_return=jnp.zeros(num_envs, jnp.float32),
        last_return=nothing,
        last_length=nothing,
        completed=jnp.zeros((), jnp.float32),
    )


def step_envs(
    keys: Array, env: Env, env_params: PyTree, state: PyTree, time: Array, action: PyTree
) -> tuple[PyTree, Step]:
    """The states and the Step [B] after one action in each of B environments; none is reset.

    `env.max_steps` truncates here, so it is the limit in every loop, whether `env.step` keeps to it or not. `time`, []
    or [B] int, is the number of steps of the episode before this one; the other arrays are [B, ...].
    """
    state, seen = jax.vmap(env.step, (0, None, 0, 0))(keys, env_params, state, action)
    return state, time_limits.cut(seen, time, env.max_steps)


def row(obs: PyTree, time: Any, action: Any, log_prob: Any, seen: Step, mask: Any) -> Trajectory:
    """One step, or many alike, as a Trajectory without a memory; all [B, ...] or [T, B, ...], of JAX or numpy.

    Args:
      obs, time: before the action; action, log_prob: chosen there.
      seen: the Step that followed; mask: float, 1 where the step counts.
    """
    return Trajectory(
        obs=obs,
        action=action,
        log_prob=log_prob,
        reward=seen.reward,
        terminated=seen.terminated,
        truncated=seen.truncated,
        next_obs=seen.obs,
        mask=mask,
        time=time,
        memory=(),
    )


def interact(
    key_action: Array,
    keys_env: Array,
    env: Env,
    env_params: PyTree,
    policy: Policy,
    params: PyTree,
    state: RolloutState,
    greedy: bool | Array = False,
) -> tuple[RolloutState, Step, PyTree, Any]:
    """One step of every environment, no reset: the state after it, the step, the action and its distribution."""
    dist, memory = policy.act(params, state.memory, state.obs)
    action = dist.sample(key_action)
    if greedy is not False:
        action = jax.tree.map(lambda likeliest, drawn: jnp.where(greedy, likeliest, drawn), dist.mode(), action)
    env_state, seen = step_envs(keys_env, env, env_params, state.env, state.time, action)
    running = state.running_return + seen.reward
    moved = state._replace(env=env_state, obs=seen.obs, memory=memory, time=state.time + 1, running_return=running)
    return moved, seen, action, dist


def where(condition: Array, this: PyTree, that: PyTree) -> PyTree:
    """Selects per environment, a condition [B] against leaves [B, ...]; or per step, [T] against [T, ...]."""

    def pick(a, b):
        return jnp.where(condition.reshape(condition.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, this, that)


def advance(alive: Array, moved: RolloutState, state: RolloutState, policy: Policy) -> RolloutState:
    """Keeps the state of an episode that has ended: further steps could overflow.

    The memory of a policy of whole episodes goes on, as `Policy.whole_episodes` says: it may be large.
    """
    memory = moved.memory if policy.whole_episodes else where(alive, moved.memory, state.memory)
    moved, state = moved._replace(memory=()), state._replace(memory=())
    return RolloutState._make((*where(alive, moved[:-1], state[:-1]), state.completed))._replace(memory=memory)


def unroll(
    key: Array,
    env: Env,
    policy: Policy,
    params: PyTree,
    state: RolloutState,
    num_steps: int,
    env_params: PyTree = None,
    keep_states: bool = False,
) -> tuple[RolloutState, Trajectory]:
    """T = `num_steps` steps of a stream; an environment whose episode ended is reset at once.

    `next_obs` is the observation before that reset, so a truncated step can bootstrap from it. `keep_states` fills
    `Trajectory.state`, from which `playing.play_on` goes on.
    """
    env_params = env.params if env_params is None else env_params
    num_envs = state.time.shape[0]
    fresh_memory = policy.memory(num_envs)

    def step(state, keys):
        key_action, keys_env, keys_reset = keys[0], keys[1 : 1 + num_envs], keys[1 + num_envs :]
        moved, seen, action, dist = interact(key_action, keys_env, env, env_params, policy, params, state)
        done = seen.terminated | seen.truncated
        first_state, first_obs = jax.vmap(env.reset, (0, None))(keys_reset, env_params)
        following = RolloutState(
            env=where(done, first_state, moved.env),
            obs=where(done, first_obs, moved.obs),
            memory=where(done, fresh_memory, moved.memory),
            time=jnp.where(done, 0, moved.time),
            running_return=jnp.where(done, 0.0, moved.running_return),
            last_return=jnp.where(done, moved.running_return, state.last_return),
            last_length=jnp.where(done, moved.time.astype(jnp.float32), state.last_length),
            completed=state.completed + jnp.sum(done),
        )
        one = row(state.obs, state.time, action, dist.log_prob(action), seen, jnp.ones(num_envs))
        return following, one._replace(state=(state.env, state.memory) if keep_states else ())

    # One draw for all steps takes half the time of draws inside the loop, and saves the compiler a loop.
    following, rows = jax.lax.scan(step, state, jax.random.split(key, (num_steps, 1 + 2 * num_envs)))
    return following, rows._replace(memory=state.memory)


def episodes(
    key: Array,
    env: Env,
    policy: Policy,
    params: PyTree,
    num_episodes: int,
    max_steps: int | None = None,
    env_params: PyTree = None,
    samples: int = 1,
    keep_states: bool = False,
) -> tuple[Trajectory, Episodes]:
    """B = `num_episodes` whole episodes, every `samples` neighbours from one start; T = `max_steps` rows.

    `mask` is 1 up to and including the step that ends an episode. Later rows repeat the last state, and after the end
    of all episodes the first step; their reward is 0. An episode that still runs at `max_steps` is truncated there; by
    default `max_steps` is the environment's own limit. `keep_states` is as in `unroll`.
    """
    env_params = env.params if env_params is None else env_params
    limit = env.max_steps if max_steps is None else max_steps
    env = env._replace(max_steps=min(limit, env.max_steps))
    key_start, key_steps = jax.random.split(key)
    state = start(key_start, env, policy, num_episodes, env_params, samples)

    def step(carry, key):
        state, alive = carry
        keys = jax.random.split(key, 1 + num_episodes)
        moved, seen, action, dist = interact(keys[0], keys[1:], env, env_params, policy, params, state)
        seen = seen._replace(
            reward=jnp.where(alive, seen.reward, 0.0),
            terminated=seen.terminated & alive,
            truncated=seen.truncated & alive,
        )
        one = row(state.obs, state.time, action, dist.log_prob(action), seen, alive.astype(jnp.float32))
        one = one._replace(state=(state.env, state.memory) if keep_states else ())
        return (advance(alive, moved, state, policy), alive & ~(seen.terminated | seen.truncated)), one

    alive = jnp.ones(num_episodes, bool)
    keys = jax.random.split(key_steps, limit)
    (last, _), rows = scan_while(step, (state, alive), keys, lambda carry, _: carry[1])
    done = Episodes(last.running_return, last.time.astype(jnp.float32))
    # Real steps of the environment, since gradients pass through them too; and the same beside any other lane.
    filled = where(remaining(rows.mask), rows, jax.tree.map(lambda x: x[:1], rows))
    ends = {name: getattr(rows, name) for name in ("reward", "terminated", "truncated", "mask")}
    return filled._replace(memory=state.memory, **ends), done


def evaluate(
    key: Array,
    env: Env,
    policy: Policy,
    params: PyTree,
    num_episodes: int,
    *,
    greedy: bool | Array = False,
    max_steps: int | None = None,
    env_params: PyTree = None,
) -> Episodes:
    """Returns and lengths of B = `num_episodes` whole episodes, each counted once and to its end.

    `greedy` takes the mode of each distribution, otherwise actions are sampled. No step is stored, so the memory in use
    doesn't grow with the length of an episode.
    """
    env_params = env.params if env_params is None else env_params
    limit = env.max_steps if max_steps is None else max_steps
    key_start, key_steps = jax.random.split(key)
    state = start(key_start, env, policy, num_episodes, env_params)

    def step(carry, t):
        state, alive = carry
        keys = jax.random.split(jax.random.fold_in(key_steps, t), 1 + num_episodes)
        moved, seen, _, _ = interact(keys[0], keys[1:], env, env_params, policy, params, state, greedy)
        return (advance(alive, moved, state, policy), alive & ~(seen.terminated | seen.truncated)), None

    alive = jnp.ones(num_episodes, bool)
    (last, _), _ = scan_while(step, (state, alive), jnp.arange(limit), lambda carry, _: carry[1])
    return Episodes(last.running_return, last.time.astype(jnp.float32))


def lately(stream: RolloutState | tuple[()], trajectory: Trajectory) -> dict[str, Array]:
    """Metrics: undiscounted return and length of the latest episodes of a stream, or () for whole episodes."""
    if isinstance(stream, RolloutState):
        found = Episodes(stream.last_return, stream.last_length)
    else:
        found = Episodes(jnp.sum(trajectory.reward * trajectory.mask, axis=0), jnp.sum(trajectory.mask, axis=0))
    return {name: jnp.nanmean(x) for name, x in found._asdict().items()}

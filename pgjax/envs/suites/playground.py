"""`from_playground` makes an `Env` of an environment of MuJoCo Playground: `envs.make("playground:CartpoleBalance")`.

Its own wrappers for time limits and automatic resets are left out: an episode that runs out of time is truncated and
never terminated, and the caller resets. `done` of an environment terminates; in the control suite nothing ends an
episode but a state that is not a number any more. Actions are clipped to [-1, 1]; rewards are float32. An environment
with action_repeat n takes each action n times and pays the sum, as Playground trains it, and its limit counts in the
environment's own steps: episode_length 1000 is 500 steps here where n is 2.

The physics engine is MJX, impl="jax", where Playground 0.2.0 itself takes MuJoCo Warp, impl="warp".
"""

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgjax import dependencies
from pgjax.envs.parameters import time_limit
from pgjax.errors import unknown
from pgjax.numerics import time_limits
from pgjax.types import Array, Env, PyTree, Step

PREFIX = "playground:"
LIMIT, REPEAT = "episode_length", "action_repeat"


class PlaygroundState(NamedTuple):
    """The state of one environment."""

    world: PyTree  # a mujoco_playground State
    time: Array  # [] int: steps since the episode began


def from_name(name: str, **settings: Any) -> Env:
    """The registered environment `name`, with or without "playground:" before it.

    Those of locomotion and manipulation read their robots from a collection of models that Playground clones into its
    own folder when the first of them is made.

    Args:
      settings: of the environment's configuration, a nested one by its path ("reward_config.scales.alive"), such as
        episode_length, the time limit, in steps; impl, the physics engine. None can be swept in one program.

    Raises:
      ValueError: for an unknown name or setting, an environment that can't be made, and without playground.
    """
    known = settable(name)
    for key in settings:
        if key not in known:
            raise ValueError(unknown(f"{name} takes no parameter", key, known))
    limit = time_limit(f"{name}: {LIMIT}", settings.get(LIMIT, known[LIMIT]))
    repeat = time_limit(f"{name}: {REPEAT}", settings.get(REPEAT, known[REPEAT]))
    try:
        with _quiet():
            overrides: dict[str, Any] = {**({"impl": "jax"} if "impl" in known else {}), **settings}
            world = _registry().load(name.removeprefix(PREFIX), config_overrides=overrides)
    except ImportError:
        raise
    except Exception as error:  # no network for its models, a setting that contradicts another
        raise ValueError(f"{name} can't be made: {type(error).__name__}: {' '.join(str(error).split())}") from error
    return from_playground(world, limit, repeat)


def names() -> list[str]:
    """The names that Playground knows."""
    return list(_registry().ALL_ENVS)


def settable(name: str) -> dict[str, Any]:
    """The name and default of every setting: numbers, words and switches."""
    registry, known = _registry(), name.removeprefix(PREFIX)
    if known not in registry.ALL_ENVS:
        raise ValueError(unknown("no environment", name, [PREFIX + x for x in registry.ALL_ENVS]))
    found = dict(_flat(registry.get_default_config(known)))
    return {**found, "impl": "jax"} if "impl" in found else found


def from_playground(world: Any, episode_length: int = 1000, action_repeat: int = 1) -> Env:
    """Adapt an environment of Playground without wrappers: `from_playground(registry.load("CartpoleBalance"))`.

    MJX factors a matrix in `reset` and in every step, by LAPACK on the CPU, batched over lanes: see Known traps in the
    design, and XLA_FLAGS=--xla_cpu_enable_concurrency_optimized_scheduler=false there should a program stand still.

    Args:
      episode_length: the time limit, in steps of the environment's own.
      action_repeat: how often the environment takes each action.

    Raises:
      ValueError: where a wrapper resets the environment or ends its episodes by a limit of its own, where observations
        are neither an array nor a dict of arrays, and where a number isn't a whole one of 1 or more.
    """
    if hasattr(world, "env"):
        raise ValueError(
            f"{PREFIX} take {type(world).__name__} off the environment; resets and time limits are pgjax's own"
        )
    repeat = time_limit(REPEAT, action_repeat)
    limit = -(-time_limit(LIMIT, episode_length) // repeat)
    with dependencies.importing("gymnax"):
        from gymnax.environments import spaces as kinds

    # Rank promotion is allowed because MJX adds arrays of different ranks, which a program may forbid.
    world_reset, world_step = map(jax.numpy_rank_promotion("allow"), (world.reset, world.step))
    reference = jax.eval_shape(world_reset, jax.random.key(0))

    def space(obs):
        if isinstance(obs, Mapping):
            return kinds.Dict({name: space(part) for name, part in obs.items()})
        if not hasattr(obs, "shape"):
            raise ValueError(f"{PREFIX} the observation must be an array or a dict of arrays, got {obs!r}")
        return kinds.Box(-jnp.inf, jnp.inf, obs.shape, obs.dtype)

    # Rewards begin as weak types or Python numbers, but a scan needs equal types at both its ends.
    def settle(state):
        return jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), state, reference)

    def reset(key: Array, params: PyTree) -> tuple[PlaygroundState, PyTree]:
        state = settle(world_reset(key))
        return PlaygroundState(state, jnp.int32(0)), state.obs

    def step(key: Array, params: PyTree, state: PlaygroundState, action: Array) -> tuple[PlaygroundState, Step]:
        action = jnp.clip(action, -1.0, 1.0)

        def once(world, _):
            following = settle(world_step(world, action))
            return following, jnp.asarray(following.reward, jnp.float32)

        if repeat == 1:
            # A copy, with dicts of its own: Playground writes into those that it is given.
            following, reward = once(jax.tree.map(lambda x: x, state.world), None)
        else:
            following, rewards = jax.lax.scan(once, state.world, None, repeat)
            reward = jnp.sum(rewards)
        seen = Step(following.obs, reward, following.done > 0, jnp.bool_(False))
        return PlaygroundState(following, state.time + 1), time_limits.cut(seen, state.time, limit)

    return Env(
        params={},
        reset=reset,
        step=step,
        observation_space=space(reference.obs),
        action_space=kinds.Box(-1.0, 1.0, (world.action_size,)),
        max_steps=limit,
    )


def _flat(config: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Path -> value of a nested configuration's plain values."""
    for name, value in config.items():
        if isinstance(value, Mapping) or hasattr(value, "items"):
            yield from _flat(value, f"{before}{name}.")
        elif isinstance(value, (bool, int, float, str)):
            yield before + name, value


def _registry() -> Any:
    # Imported where it is used: the import takes seconds, and most of the package does without it.
    with dependencies.importing("mujoco_playground", "playground", f"env {PREFIX}NAME"), _quiet():
        from mujoco_playground import registry
    return registry


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the prints and warnings of Playground and its imports about missing or newer physics engines."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield

"""`from_craftax` makes an `Env` of a Craftax environment: `envs.make("craftax:Craftax-Classic-Symbolic-v1")`.

Craftax says of its time limit what it says of a death: done, and a discount of 0. Here the limit is taken out of the
environment, which then ends by death, lava or the beaten boss alone, a termination; the limit is a truncation.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgjax import dependencies
from pgjax.envs import images
from pgjax.envs.parameters import Static, check_values, time_limit
from pgjax.envs.suites import common
from pgjax.numerics import time_limits
from pgjax.types import Array, Env, PyTree, Step

PREFIX = "craftax:"

# Craftax has no list of names.
NAMES = (
    "Craftax-Symbolic-v1",
    "Craftax-Pixels-v1",
    "Craftax-Classic-Symbolic-v1",
    "Craftax-Classic-Pixels-v1",
)

LIMIT = "max_timesteps"

NOTES = {"": "Craftax says the same of its time limit as of a death; here the limit is a truncation."}

_NEVER = 2**31 - 1  # a limit that no episode comes to


class CraftaxState(NamedTuple):
    """The state of one environment."""

    world: PyTree  # a craftax EnvState
    time: Array  # [] int: steps since the episode began


def from_name(name: str, **arguments: Any) -> Env:
    """The environment `name`, with or without "craftax:" before it.

    Args:
      arguments: `max_timesteps`, and parameters of Craftax by name, which can be swept in one program.

    Raises:
      ValueError: for an unknown name or argument, and without craftax.
    """
    world = _make(name)
    defaults = settable(name)
    rest = {key: value for key, value in arguments.items() if key in defaults and key != LIMIT}
    common.check_arguments(name, {k: x for k, x in arguments.items() if k not in rest}, defaults, LIMIT)
    env = from_craftax(world, arguments.get(LIMIT, defaults[LIMIT]))
    check_values(env.params, rest, name)
    return env._replace(params={**env.params, **rest})


def names() -> list[str]:
    """The names of Craftax's environments."""
    _made()
    return list(NAMES)


def settable(name: str) -> Static:
    """The name and default of every parameter that is a number, and of the time limit."""
    params = _make(name).default_params
    return Static({LIMIT: int(params.max_timesteps), **_numbers(params)}, (LIMIT,))


def from_craftax(world: Any, max_timesteps: int | None = None) -> Env:
    """Adapt a craftax environment, as `make_craftax_env_from_name(name, auto_reset=False)` gives it.

    `Env.params` has the numbers of Craftax's EnvParams by name, such as `day_length` and `mob_despawn_distance`.

    Args:
      max_timesteps: the time limit, in steps; by default the environment's own.

    Raises:
      ValueError: for a time limit below 1.
    """
    defaults = world.default_params
    limit = time_limit(f"craftax: {LIMIT}", defaults.max_timesteps if max_timesteps is None else max_timesteps)
    # `step_env` and `reset_env` reset nothing, whatever the environment's `step` does.
    own_reset, own_step = common.ranked(world.reset_env), common.ranked(world.step_env)
    with dependencies.importing("gymnax"):
        from gymnax.environments import spaces as kinds

    def complete(params: PyTree) -> PyTree:
        return dataclasses.replace(defaults, **params, max_timesteps=_NEVER)

    params = _numbers(defaults)
    reference = jax.eval_shape(lambda: own_reset(jax.random.key(0), complete(params)))
    settle = common.settler(reference)
    declared = world.observation_space(defaults)
    # Pixels and sums of encodings are in [0, 1]; levels and counts of the inventory are scaled, and may exceed 1.
    pixels = len(declared.shape) == 3
    low, high = (0.0, 1.0) if pixels else (-jnp.inf, jnp.inf)
    space = kinds.Box(low, high, reference[0].shape, reference[0].dtype)

    def reset(key: Array, params: PyTree) -> tuple[CraftaxState, Array]:
        obs, state = settle(own_reset(key, complete(params)))
        return CraftaxState(state, jnp.int32(0)), obs

    def step(key: Array, params: PyTree, state: CraftaxState, action: Array) -> tuple[CraftaxState, Step]:
        obs, following, reward, done, _ = own_step(key, state.world, action, complete(params))
        obs, following = settle((obs, following))
        seen = Step(obs, jnp.asarray(reward, jnp.float32), jnp.asarray(done, bool), jnp.bool_(False))
        return CraftaxState(following, state.time + 1), time_limits.cut(seen, state.time, limit)

    return Env(
        params=params,
        reset=reset,
        step=step,
        observation_space=images.declared(space) if pixels else space,
        action_space=kinds.Discrete(world.num_actions),
        max_steps=limit,
    )


def _numbers(params: Any) -> dict[str, Any]:
    """Name -> value of Craftax's parameters, but for the time limit and what isn't a number."""
    fields = {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    return {name: x for name, x in fields.items() if isinstance(x, (bool, int, float)) and name != LIMIT}


def _make(name: str) -> Any:
    short = common.known(PREFIX, name, list(NAMES))
    return _made()(short, auto_reset=False)


def _made() -> Any:
    # Imported where it is used: Craftax takes seconds and reads its textures.
    with dependencies.importing("craftax", "craftax", f"env {PREFIX}NAME"):
        from craftax.craftax_env import make_craftax_env_from_name
    return make_craftax_env_from_name

"""`from_xminigrid` makes an `Env` of an XLand-MiniGrid environment: `envs.make("xminigrid:MiniGrid-Empty-5x5")`.

XLand-MiniGrid ends an episode with step_type LAST; its discount is 0 at an end and 1 at the time limit, so the first
is a termination here, the second a truncation. It never resets by itself without its wrappers.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from pgjax import dependencies
from pgjax.envs import images
from pgjax.envs.parameters import time_limit
from pgjax.envs.suites import common
from pgjax.types import Array, Env, PyTree, Step

PREFIX = "xminigrid:"

LIMIT = "max_steps"

NOTES = {"XLand": "Begins with an empty rule set, in which nothing pays; give from_xminigrid one of a benchmark."}

# Wrappers of xminigrid.wrappers that reset the environment.
WRAPPERS = ("GymAutoResetWrapper", "DmEnvAutoResetWrapper")


def from_name(name: str, **arguments: Any) -> Env:
    """The registered environment `name`, with or without "xminigrid:" before it.

    Args:
      arguments: whole numbers of the environment's parameters, such as `max_steps` and `view_size`; none can be swept
        in one program. The rule set of an XLand environment is no number: see `from_xminigrid`.

    Raises:
      ValueError: for an unknown name or argument, and without xminigrid.
    """
    xminigrid = _xminigrid()
    short = common.known(PREFIX, name, list(xminigrid.registered_environments()))
    common.check_arguments(name, arguments, settable(name), LIMIT)
    return from_xminigrid(*xminigrid.make(short, **arguments))


def names() -> list[str]:
    """The names that XLand-MiniGrid knows."""
    return list(_xminigrid().registered_environments())


def settable(name: str) -> dict[str, Any]:
    """The name and default of every parameter that is a whole number."""
    xminigrid = _xminigrid()
    _, params = xminigrid.make(common.known(PREFIX, name, list(xminigrid.registered_environments())))
    fields = {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    return {name: x for name, x in fields.items() if type(x) is int}


def from_xminigrid(world: Any, params: Any) -> Env:
    """Adapt an environment and its parameters, as `xminigrid.make` gives them.

    An XLand environment begins with an empty rule set, in which nothing pays; give one of a benchmark:

        world, params = xminigrid.make("XLand-MiniGrid-R1-9x9")
        ruleset = xminigrid.load_benchmark("trivial-1m").sample_ruleset(key)
        env = from_xminigrid(world, params.replace(ruleset=ruleset))

    Wrappers that add to the observation are welcome.

    Raises:
      ValueError: for a time limit below 1, and for a wrapper that resets the environment.
    """
    inner = world
    while inner is not None:
        if type(inner).__name__ in WRAPPERS:
            raise ValueError(f"xminigrid: take {type(inner).__name__} off the environment; resets are pgjax's own")
        inner = getattr(inner, "__dict__", {}).get("_env")
    with dependencies.importing("gymnax"):
        from gymnax.environments import spaces as kinds
    with dependencies.importing("xminigrid", "xminigrid", f"env {PREFIX}NAME"):
        from xminigrid.core import constants

    most = max(constants.NUM_TILES, constants.NUM_COLORS) - 1
    limit = time_limit(f"xminigrid: {LIMIT}", params.max_steps)
    own_reset, own_step = common.ranked(world.reset), common.ranked(world.step)

    def kept(seen):
        # The key serves the resets of wrappers alone.
        return seen.replace(observation=None, state=seen.state.replace(key=None)), common.plain(seen.observation)

    reference = jax.eval_shape(lambda: kept(own_reset(params, jax.random.key(0))))
    settle = common.settler(reference)

    # The state is an xminigrid TimeStep.
    def reset(key: Array, _: PyTree) -> tuple[PyTree, PyTree]:
        return settle(kept(own_reset(params, key)))

    def step(key: Array, _: PyTree, state: PyTree, action: Array) -> tuple[PyTree, Step]:
        after, obs = settle(kept(own_step(params, state, action)))
        last, ended = after.last(), after.discount == 0
        return after, Step(obs, jnp.asarray(after.reward, jnp.float32), last & ended, last & ~ended)

    def bounds(_, like):  # tiles and their colours; what wrappers add is one-hot, or a rule's numbers
        return (0, most) if like.dtype == jnp.uint8 else common.every("", like)

    obs = reference[1]
    space = common.space(obs, bounds)
    return Env(
        params={},
        reset=reset,
        step=step,
        observation_space=images.declared(space) if len(getattr(obs, "shape", ())) == 3 else space,
        action_space=kinds.Discrete(int(world.num_actions(params))),
        max_steps=limit,
    )


def _xminigrid() -> Any:
    # Imported where it is used: it takes seconds.
    with dependencies.importing("xminigrid", "xminigrid", f"env {PREFIX}NAME"):
        import xminigrid
    return xminigrid

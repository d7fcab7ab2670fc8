"""`from_jumanji` makes an `Env` of a Jumanji environment: `envs.make("jumanji:Snake-v1")`.

Most of Jumanji's environments end at their time limit with a discount of 0, as at an end of their own. Here an end is
what the same environment with a longer limit ends at too, a termination; the limit alone is a truncation.

Observations are dicts, nested where Jumanji's are, with "action_mask" where Jumanji has one. An action of several
numbers is a MultiDiscrete, and where its mask says which combinations are legal, one Discrete of all combinations, in
the order of `jnp.unravel_index`. Rewards of several agents are summed, as by Jumanji's MultiToSingleWrapper.
"""

import copy
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import dependencies
from pgjax.envs import spaces
from pgjax.envs.observations import MASK
from pgjax.envs.parameters import time_limit
from pgjax.envs.suites import common
from pgjax.numerics import time_limits
from pgjax.types import Array, Env, PyTree, Step

PREFIX = "jumanji:"

LIMIT = "time_limit"

NOTES = {
    "": "Jumanji ends most environments at their limit with a discount of 0; here the limit is a truncation.",
    "Tetris": "Shows a step_count that stays 0.",
    "Game2048": "Has no limit of its own: moves that change nothing are steps too. 4,000 here.",
    "FlatPack": "Ends after as many steps as there are blocks, whether they were placed or not.",
    "MultiCVRP": "Pays the worst that could still come where it takes too long, which is an end of its own.",
    "Connector": "Several agents act at once; their rewards are summed.",
    "LevelBasedForaging": "Several agents act at once; their rewards are summed.",
    "SearchAndRescue": "Several agents act at once; their rewards are summed.",
    "Sokoban": "Fetches its levels when it is made; give from_jumanji one with a generator of your own.",
}

# Class of an environment without a time limit -> the longest episode that it can have, which ends by itself. Game2048
# has none, since moves that change nothing are steps too: its limit is chosen here, that of Snake.
LONGEST: dict[str, Callable[[Any], int]] = {
    "Game2048": lambda world: 4000,
    "GraphColoring": lambda world: world.num_nodes,
    "Minesweeper": lambda world: world.num_rows * world.num_cols,
    "Sudoku": lambda world: 81,
    "BinPack": lambda world: world.generator.max_num_items,
    "FlatPack": lambda world: world.num_blocks,
    "JobShop": lambda world: world.num_jobs * world.max_num_ops * world.max_op_duration,
    "Knapsack": lambda world: world.num_items,
    "CVRP": lambda world: 2 * world.num_nodes,
    "MultiCVRP": lambda world: 2 * world._num_customers + 1,
    "TSP": lambda world: world.num_cities,
}

# (Class, observation) -> the least value that it really shows, where the declared one is greater: a TSP begins nowhere.
LOWEST = {("TSP", "position"): -1}

# Names of observations that count the steps of the episode.
CLOCKS = ("step_count", "step")


class JumanjiState(NamedTuple):
    """The state of one environment."""

    world: PyTree  # a jumanji State, without its key
    time: Array  # [] int: steps since the episode began


def from_name(name: str, **arguments: Any) -> Env:
    """The registered environment `name`, with or without "jumanji:" before it.

    Args:
      arguments: `time_limit`, and numbers and switches of the environment's constructor; none can be swept in one
        program.

    Raises:
      ValueError: for an unknown name or argument, for an environment whose problems can't be fetched, and without
        jumanji.
    """
    world = _make(name)
    common.check_arguments(name, arguments, _settable(world), LIMIT)
    own = inspect.signature(type(world)).parameters
    if built := {key: x for key, x in arguments.items() if key in own}:
        world = _make(name, **built)
    return from_jumanji(world, arguments.get(LIMIT))


def names() -> list[str]:
    """The names that Jumanji knows."""
    return sorted(_jumanji().registered_environments())


def settable(name: str) -> dict[str, Any]:
    """The name and default of every argument that can be set by name: numbers, switches, the time limit."""
    return _settable(_make(name))


def from_jumanji(world: Any, limit: int | None = None) -> Env:
    """Adapt a jumanji environment without wrappers: `from_jumanji(jumanji.make("Snake-v1"))`.

    The randomness of a step comes from its key, not from one that Jumanji keeps in the state.

    Args:
      limit: the time limit, in steps; by default the environment's own, or where it has none its longest episode.

    Raises:
      ValueError: for a wrapper, a time limit below 1 or above the environment's own, and where there is none.
    """
    jumanji = _jumanji()
    if isinstance(world, jumanji.wrappers.Wrapper):
        raise ValueError(f"jumanji: take {type(world).__name__} off the environment; resets are pgjax's own")
    with dependencies.importing("gymnax"):
        from gymnax.environments import spaces as kinds
    limit = _limit(world, limit)
    longer = copy.copy(world)  # the same environment, which doesn't end at the limit
    if hasattr(world, LIMIT):
        longer.time_limit = world.time_limit + 1
    # Whether rewards depend on the limit, as those of SearchAndRescue do; of a class of the user's own it isn't known.
    scaled = not type(world).__module__.startswith("jumanji.") or type(world).__name__ == "SearchAndRescue"
    own_reset, own_step, later_step = map(common.ranked, (world.reset, world.step, longer.step))

    def kept(state, seen):
        return _replace(state, key=None), convert(common.plain(seen.observation))

    actions, convert, unfold = _actions(world, kinds)
    reference = jax.eval_shape(lambda: kept(*own_reset(jax.random.key(0))))
    settle = common.settler(reference)

    def reset(key: Array, params: PyTree) -> tuple[JumanjiState, PyTree]:
        state, obs = settle(kept(*own_reset(key)))
        return JumanjiState(state, jnp.int32(0)), obs

    def step(key: Array, params: PyTree, state: JumanjiState, action: Array) -> tuple[JumanjiState, Step]:
        before, taken = _replace(state.world, key=key), unfold(action)
        after, seen = (own_step if scaled else later_step)(before, taken)
        ended = later_step(before, taken)[1].last() if scaled else seen.last()
        following, obs = settle(kept(after, seen))
        one = Step(obs, jnp.sum(seen.reward).astype(jnp.float32), ended, jnp.bool_(False))
        return JumanjiState(following, state.time + 1), time_limits.cut(one, state.time, limit)

    def bounds(path, like):
        spec = world.observation_spec
        for part in filter(None, path.split(".")):
            spec = getattr(spec, part)
        if path in CLOCKS:  # some declare that they end before the limit, which the last observation shows
            return 0, limit
        if not hasattr(spec, "minimum"):
            return -np.inf, np.inf
        low, high = np.asarray(spec.minimum), np.asarray(spec.maximum)
        if low.ndim == high.ndim == 0:
            return LOWEST.get((type(world).__name__, path), low.item()), high.item()
        return np.broadcast_to(low, like.shape), np.broadcast_to(high, like.shape)

    obs = reference[1]
    space = common.space(obs, lambda path, like: (0, 1) if like.dtype == bool else bounds(path, like))
    return Env(params={}, reset=reset, step=step, observation_space=space, action_space=actions, max_steps=limit)


def _actions(world: Any, kinds: Any) -> tuple[Any, Callable[[PyTree], PyTree], Callable[[Array], Array]]:
    """The space of actions; what makes an observation's mask fit them; what makes Jumanji's action of one of them."""
    spec = world.action_spec
    mask: Any = getattr(world.observation_spec, MASK, None)
    if np.issubdtype(spec.dtype, np.integer) and not hasattr(spec, "num_values"):
        # MultiCVRP's vehicles: the greatest node that it declares is one that it hasn't.
        return spaces.MultiDiscrete([mask.shape[-1]] * spec.shape[0]), lambda obs: obs, lambda action: action
    if not hasattr(spec, "num_values"):  # real numbers, a row for each agent
        low, high = (jnp.broadcast_to(x, spec.shape).ravel() for x in (spec.minimum, spec.maximum))
        box = kinds.Box(low, high, low.shape)
        return box, lambda obs: obs, lambda action: action.reshape(spec.shape)
    sizes = np.asarray(spec.num_values)
    if sizes.ndim == 0:
        return kinds.Discrete(int(sizes)), lambda obs: obs, lambda action: action
    if mask is None or tuple(mask.shape) != tuple(sizes):
        return spaces.MultiDiscrete(sizes), lambda obs: obs, lambda action: action

    def unfold(action):
        return jnp.stack(jnp.unravel_index(action, tuple(sizes))).astype(spec.dtype)

    return kinds.Discrete(int(np.prod(sizes))), lambda obs: {**obs, MASK: obs[MASK].ravel()}, unfold


def _limit(world: Any, limit: int | None) -> int:
    """The time limit; ValueError for one that the environment would end before."""
    kind = type(world).__name__
    own = getattr(world, LIMIT, None)
    if own is None and limit is None and kind not in LONGEST:
        raise ValueError(f"jumanji: {kind} has no time limit; give from_jumanji(world, limit) one, in steps")
    known = own if own is not None else LONGEST[kind](world) if kind in LONGEST else limit
    chosen = time_limit(f"jumanji: {LIMIT}", known if limit is None else limit)
    if own is not None and chosen > own:
        raise ValueError(f"jumanji: limit={chosen} is above the environment's own {LIMIT}={own}; build it with more")
    return chosen


def _settable(world: Any) -> dict[str, Any]:
    found = {p.name: p.default for p in inspect.signature(type(world)).parameters.values()}
    plain = {name: getattr(world, name, x) for name, x in found.items() if isinstance(x, (bool, int, float))}
    return {**plain, LIMIT: _limit(world, None)}


def _replace(state: Any, **values: Any) -> Any:
    return state._replace(**values) if hasattr(state, "_replace") else state.replace(**values)


def _make(name: str, **arguments: Any) -> Any:
    jumanji = _jumanji()
    short = common.known(PREFIX, name, sorted(jumanji.registered_environments()))
    try:
        return jumanji.make(short, **arguments)
    except Exception as error:  # an assertion, or problems that it fetches when it is made
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"{name} can't be made: {type(error).__name__}: {said}") from error


def _jumanji() -> Any:
    # Imported where it is used: it takes seconds.
    with dependencies.importing("jumanji", "jumanji", f"env {PREFIX}NAME"):
        import jumanji
        import jumanji.wrappers
    return jumanji

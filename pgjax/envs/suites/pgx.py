"""`from_pgx` makes an `Env` of a game of pgx for one player: `envs.make("pgx:minatar-breakout")`.

The MinAtar games of pgx (2.6.0) show [10, 10, C] bools, take the minimal action set, and repeat the last action with
probability .1 (sticky actions, `sticky_action_prob`). They know no truncation: Freeway alone ends by a clock, at step
2,501, and pgx calls that terminated. Here a clock truncates. 2048 shows [4, 4, 31] bools beside a mask of the legal
moves, since an illegal one ends the game with reward -1.
"""

import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgjax import dependencies
from pgjax.envs import images, observations
from pgjax.envs.parameters import time_limit
from pgjax.errors import unknown
from pgjax.numerics import time_limits
from pgjax.types import Array, Env, PyTree, Step

PREFIX = "pgx:"
LIMIT = "max_steps"

# Freeway's own time limit: its clock begins at 2,500 and ends the game once it is below 0.
FREEWAY = 2501
# The other games have none, and what a good player of 2048 needs is some thousands of moves.
UNLIMITED = 10_000

# Those of pgx.available_envs() for one player; pgx can't tell before it has built a game, and some take seconds.
NAMES = (
    "2048",
    "minatar-asterix",
    "minatar-breakout",
    "minatar-freeway",
    "minatar-seaquest",
    "minatar-space_invaders",
)


class PgxState(NamedTuple):
    """The state of one game."""

    game: PyTree  # a pgx State
    time: Array  # [] int: steps since the episode began


def from_name(name: str, *, max_steps: int | None = None, **arguments: Any) -> Env:
    """The game `name`, with or without "pgx:" before it.

    Args:
      max_steps: the time limit, in steps: by default Freeway's own, 2,501, and 10,000 for the others, which have none.
      arguments: of a MinAtar game's constructor, use_minimal_action_set and sticky_action_prob.

    Raises:
      ValueError: for an unknown name or argument, a game for several players, and without pgx.
    """
    world = _world(name)
    for argument in arguments:
        if argument not in (known := settable(name)):
            raise ValueError(unknown(f"{name} takes no parameter", argument, known))
    return from_pgx(type(world)(**arguments) if arguments else world, max_steps)


def names() -> list[str]:
    """The names of pgx's games for one player."""
    known = _pgx().available_envs()
    return [name for name in NAMES if name in known]


def settable(name: str) -> dict[str, Any]:
    """The name and default of every argument that can be set by name."""
    world = _world(name)
    own = inspect.signature(type(world)).parameters.values()
    return {**{p.name: p.default for p in own}, LIMIT: _own_limit(world)}


def from_pgx(world: Any, max_steps: int | None = None) -> Env:
    """Adapt a pgx game for one player: `from_pgx(pgx.make("2048"))`.

    The observation of a game in which not every action is always legal is {"observation": ..., "action_mask": [A]}.

    Raises:
      ValueError: for a game of several players, and where the limit isn't a whole number of 1 or more.
    """
    if world.num_players != 1:
        raise ValueError(f"{PREFIX}{world.id} is a game for {world.num_players} players; give one for a single player")
    limit = time_limit(LIMIT, _own_limit(world) if max_steps is None else max_steps)
    with dependencies.importing("gymnax"):
        from gymnax.environments import spaces as kinds

    # Rank promotion is allowed because pgx compares and adds arrays of different ranks, which a program may forbid.
    init, own_step = map(jax.numpy_rank_promotion("allow"), (world.init, world.step))
    reference = jax.eval_shape(init, jax.random.key(0))

    def settle(game):
        return jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), game, reference)

    def reset(key: Array, params: PyTree) -> tuple[PgxState, Array]:
        game = settle(init(key))
        if hasattr(game, "_terminate_timer"):  # Freeway's clock, which the limit here replaces
            game = game.replace(_terminate_timer=jnp.full_like(game._terminate_timer, jnp.iinfo(jnp.int32).max))
        return PgxState(game, jnp.int32(0)), game.observation

    def step(key: Array, params: PyTree, state: PgxState, action: Array) -> tuple[PgxState, Step]:
        game = settle(own_step(state.game, action, key))
        reward = jnp.asarray(game.rewards[0], jnp.float32)
        seen = Step(game.observation, reward, game.terminated, game.truncated & ~game.terminated)
        return PgxState(game, state.time + 1), time_limits.cut(seen, state.time, limit)

    space = kinds.Box(0, 1, reference.observation.shape, reference.observation.dtype)
    env = Env(
        params={},
        reset=reset,
        step=step,
        observation_space=images.declared(space) if len(space.shape) == 3 else space,
        action_space=kinds.Discrete(reference.legal_action_mask.shape[0]),
        max_steps=limit,
    )
    # In MinAtar every action is always legal.
    always = world.id.startswith("minatar-")
    return env if always else observations.masked(env, lambda params, state: state.game.legal_action_mask)


def _own_limit(world: Any) -> int:
    return FREEWAY if world.id == "minatar-freeway" else UNLIMITED


def _world(name: str) -> Any:
    """The game as pgx makes it."""
    pgx, known = _pgx(), name.removeprefix(PREFIX)
    if known not in NAMES:
        if known in pgx.available_envs():
            raise ValueError(
                f"{name} is a game for several players; choose from {', '.join(PREFIX + x for x in NAMES)}"
            )
        raise ValueError(unknown("no environment", name, [PREFIX + x for x in NAMES]))
    return pgx.make(known)


def _pgx() -> Any:
    # Imported where it is used: most of the package does without it.
    with dependencies.importing("pgx", "pgx", f"env {PREFIX}NAME"):
        import pgx
    return pgx

"""`from_envelope` makes an `Env` of an environment of jax-envelope: `envs.make("envelope:brax::fast")`.

Envelope (Python 3.12 and newer) gives many suites one interface: SUITE::NAME, of the suites that are installed. Its
environment is taken bare, without envelope's wrappers: the time limit is a truncation here, only where the episode
didn't end there anyway, and the caller resets. The state of an environment holds the key of its later steps, drawn from
that of `reset`, so the key that a step is given does nothing.

Spaces: a Discrete of several numbers is a MultiDiscrete of actions, and a Box of whole numbers of observations.
NamedTuples and other records of arrays are dicts by field.
"""

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import dependencies
from pgjax.envs import images, spaces
from pgjax.envs.parameters import time_limit
from pgjax.errors import unknown
from pgjax.numerics import time_limits
from pgjax.types import Array, Env, PyTree, Step

PREFIX = "envelope:"
LIMIT = "max_episode_steps"


class EnvelopeState(NamedTuple):
    """The state of one environment."""

    world: PyTree  # the state of the envelope environment
    time: Array  # [] int: steps since the episode began


def from_name(name: str, *, max_episode_steps: int | None = None, **arguments: Any) -> Env:
    """The environment `name`, "envelope:SUITE::NAME", or that without "envelope:" before it.

    Args:
      max_episode_steps: the time limit, in steps; by default the one that envelope says the suite has.
      arguments: of the constructor in that suite; envelope doesn't say which there are. None can be swept in one
        program.

    Raises:
      ValueError: for an unknown suite or environment, one that can't be made, one without a time limit, and without
        envelope.
    """
    world = _world(name, arguments)
    limit = world.default_max_steps if max_episode_steps is None else max_episode_steps
    if limit is None:
        raise ValueError(f"{name} has no time limit; set env.{LIMIT}")
    return from_envelope(world, time_limit(f"{name}: {LIMIT}", limit))


def names() -> list[str]:
    """The names, SUITE::NAME, of all suites that envelope can import here."""
    envelope = _envelope()
    with _quiet():
        return [name for suite in envelope.registered_suites() for name in envelope.registered_environments(suite)]


def settable(name: str) -> dict[str, Any]:
    """The time limit and its default, 0 for none; envelope doesn't say which arguments a constructor has."""
    return {LIMIT: _world(name, {}).default_max_steps or 0}


def from_envelope(world: Any, max_steps: int) -> Env:
    """Adapt an envelope environment without wrappers: `from_envelope(create(NAME, max_episode_steps=None), 1000)`.

    Raises:
      TypeError: for anything but an envelope environment.
      ValueError: for a wrapped one, spaces that have no counterpart here, and where the limit isn't a whole number of 1
        or more.
    """
    envelope = _envelope()
    if not isinstance(world, envelope.Environment):
        raise TypeError(f"{PREFIX} expected an envelope environment, got {type(world).__name__}")
    if isinstance(world, envelope.Wrapper):
        raise ValueError(
            f"{PREFIX} take {type(world).__name__} off the environment; resets, time limits and batches are pgjax's own"
        )
    limit = time_limit("max_steps", max_steps)

    # Rank promotion is allowed because some suites add arrays of different ranks, which a program may forbid.
    init, own_step = map(jax.numpy_rank_promotion("allow"), (world.init, world.step))
    reference = jax.eval_shape(lambda key: _first(init(key)), jax.random.key(0))

    # Rewards and states begin as weak types or Python numbers, but a scan needs equal types at both its ends.
    def settle(both):
        return jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), both, reference)

    def reset(key: Array, params: PyTree) -> tuple[EnvelopeState, PyTree]:
        state, obs = settle(_first(init(key)))
        return EnvelopeState(state, jnp.int32(0)), obs

    def step(key: Array, params: PyTree, state: EnvelopeState, action: PyTree) -> tuple[EnvelopeState, Step]:
        following, info = own_step(state.world, action)
        following, obs = settle((following, _plain(info.obs)))
        terminated = jnp.asarray(info.terminated, bool)
        truncated = jnp.asarray(info.truncated, bool) & ~terminated
        seen = Step(obs, jnp.asarray(info.reward, jnp.float32), terminated, truncated)
        return EnvelopeState(following, state.time + 1), time_limits.cut(seen, state.time, limit)

    return Env(
        params={},
        reset=reset,
        step=step,
        observation_space=_observed(_tree(world.observation_space), reference[1]),
        action_space=_acted(_tree(world.action_space)),
        max_steps=limit,
    )


def _first(made: Any) -> tuple[PyTree, PyTree]:
    """(State, observation) of what `init` gives."""
    state, info = made
    return state, _plain(info.obs)


def _plain(tree: Any) -> PyTree:
    """A tree with dicts in place of its records: NamedTuples, dataclasses and other mappings."""
    if hasattr(tree, "_asdict"):
        tree = tree._asdict()
    elif dataclasses.is_dataclass(tree) and not _is_space(tree):
        tree = {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree)}
    if isinstance(tree, Mapping):
        return {name: _plain(part) for name, part in tree.items()}
    return tuple(map(_plain, tree)) if isinstance(tree, (tuple, list)) else tree


def _tree(space: Any) -> PyTree:
    """The tree of Discrete and Continuous spaces that an envelope space is."""
    return _plain(space.tree) if hasattr(space, "tree") else space


def _is_space(tree: Any) -> bool:
    return type(tree).__module__ == "envelope.spaces"


def _observed(space: Any, obs: PyTree) -> Any:
    """The space of observations, with the types that they really have."""
    kinds = _kinds()
    if isinstance(space, dict):
        return kinds.Dict({name: _observed(part, obs[name]) for name, part in space.items()})
    if isinstance(space, tuple):
        return kinds.Tuple([_observed(part, x) for part, x in zip(space, obs, strict=True)])
    if hasattr(space, "low"):
        made = kinds.Box(np.asarray(space.low), np.asarray(space.high), obs.shape, obs.dtype)
    elif obs.shape:
        made = kinds.Box(0, np.asarray(space.n) - 1, obs.shape, obs.dtype)
    else:
        return kinds.Discrete(int(space.n))
    return images.declared(made) if len(obs.shape) == 3 and obs.shape[2] < min(obs.shape[:2]) else made


def _acted(space: Any) -> Any:
    """The space of actions."""
    kinds = _kinds()
    if isinstance(space, dict):
        return kinds.Dict({name: _acted(part) for name, part in space.items()})
    if isinstance(space, tuple):
        return kinds.Tuple([_acted(part) for part in space])
    if hasattr(space, "low"):
        return kinds.Box(np.asarray(space.low), np.asarray(space.high), space.shape, space.dtype)
    return spaces.MultiDiscrete(space.n) if space.shape else kinds.Discrete(int(space.n))


def _world(name: str, arguments: dict[str, Any]) -> Any:
    """The bare environment."""
    envelope, known = _envelope(), name.removeprefix(PREFIX)
    suite, apart, inside = known.partition("::")
    if not apart or suite not in envelope.registered_suites():
        raise ValueError(unknown("no environment", name, [f"{PREFIX}{x}::NAME" for x in envelope.registered_suites()]))
    with _quiet():
        listed = envelope.registered_environments(suite)
    if listed and known not in listed:
        raise ValueError(unknown("no environment", name, [PREFIX + x for x in listed]))
    try:
        with _quiet():
            return envelope.create(known, arguments or None, max_episode_steps=None)
    except ImportError as error:
        why = " ".join(str(error.__cause__ or error).split())
        raise dependencies.PackageError(f"{name}: can't import the package of the suite {suite}: {why}") from error
    except Exception as error:  # each suite raises what it likes
        raise ValueError(f"{name} can't be made: {type(error).__name__}: {' '.join(str(error).split())}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the prints and warnings of suites about physics engines and limits, which are set here."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _kinds() -> Any:
    with dependencies.importing("gymnax"):
        from gymnax.environments import spaces as kinds
    return kinds


def _envelope() -> Any:
    # Imported where it is used: most of the package does without it.
    with dependencies.importing("envelope", "envelope", f"env {PREFIX}SUITE::NAME"):
        import envelope
        from envelope import create  # noqa: F401  (PyPI has another package of this name)
    return envelope

"""`from_brax` makes an `Env` of a Brax environment: `envs.make("brax:ant")`.

Brax's own wrappers for time limits and automatic resets are left out: an episode that runs out of time is truncated
and never terminated, and the caller resets. Actions are clipped to [-1, 1], the range that Brax scales to its
actuators; rewards are float32. (Brax warns that its environments are no longer maintained; they still run.)
"""

import contextlib
import inspect
import io
import numbers
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgjax import dependencies
from pgjax.errors import unknown
from pgjax.numerics import time_limits
from pgjax.types import Array, Env, PyTree, Step

PREFIX = "brax:"


BACKENDS = ("spring", "positional", "generalized", "mjx")


# Wrappers of brax.envs.wrappers.training, which `brax.envs.create` adds.
WRAPPERS = ("AutoResetWrapper", "EpisodeWrapper", "EvalWrapper", "VmapWrapper", "DomainRandomizationVmapWrapper")


class BraxState(NamedTuple):
    """The state of one environment."""

    world: PyTree  # a brax State
    time: Array  # [] int: steps since the episode began


def from_name(name: str, *, backend: str = "spring", episode_length: int = 1000, **arguments: Any) -> Env:
    """The registered environment `name`, with or without "brax:" before it.

    Args:
      backend: the physics engine. By default spring, the fastest to compile and to run. generalized, which most of
        Brax's own results use, and mjx factor a matrix in `reset` or in every step: on a CPU of two cores a program
        with several of these calls over lanes may hang (see Known traps in the design).
      episode_length: the time limit, in steps.
      arguments: arguments of the environment's constructor; none can be swept in one program.

    Raises:
      ValueError: for an unknown name, backend or argument, and without brax.
    """
    registry = _registry()
    known = name.removeprefix(PREFIX)
    if known not in registry:
        raise ValueError(unknown("no environment", name, [PREFIX + x for x in registry]))
    if backend not in BACKENDS:
        raise ValueError(unknown("backend: brax has no", backend, BACKENDS))
    if episode_length < 1:
        raise ValueError(f"episode_length must be 1 or more, got {episode_length}")
    for argument in arguments:
        if argument not in settable(name):
            raise ValueError(unknown(f"{name} takes no parameter", argument, settable(name)))
    envs = _brax()
    try:
        with _quiet():
            world = envs.get_environment(known, backend=backend, **arguments)
    except ImportError as error:  # a backend's own package
        raise dependencies.PackageError(f"{name}: {dependencies.explained(error, 'brax', 'brax')}") from error
    return from_brax(world, episode_length)


def names() -> list[str]:
    """The names that Brax knows."""
    return list(_registry())


def settable(name: str) -> dict[str, Any]:
    """The name and default of every argument that can be set by name: numbers, words and switches."""
    registry = _registry()
    known = name.removeprefix(PREFIX)
    if known not in registry:
        raise ValueError(unknown("no environment", name, [PREFIX + x for x in registry]))
    own = {p.name: p.default for p in inspect.signature(registry[known]).parameters.values()}
    plain = {k: x for k, x in own.items() if isinstance(x, (bool, int, float, str))}
    return {**plain, "backend": "spring", "episode_length": 1000}


def from_brax(world: Any, episode_length: int = 1000) -> Env:
    """Adapt a brax environment without wrappers: `from_brax(brax.envs.get_environment("ant"))`.

    Raises:
      ValueError: where its observation is no array [D], the limit isn't 1 or more, or a wrapper resets the environment
        or ends its episodes by a limit of its own.
    """
    inner = world
    while inner is not None:
        if type(inner).__name__ in WRAPPERS:
            raise ValueError(
                f"brax: take {type(inner).__name__} off the environment; resets and time limits are pgjax's own"
            )
        inner = getattr(inner, "__dict__", {}).get("env")
    if isinstance(episode_length, bool) or not isinstance(episode_length, numbers.Integral) or episode_length < 1:
        raise ValueError(f"episode_length={episode_length!r} must be a whole number of 1 or more")
    with dependencies.importing("gymnax"):
        from gymnax.environments import spaces

    # Rewards begin as weak types or Python numbers, but a scan needs equal types at both its ends. Rank promotion is
    # allowed because Brax adds arrays of different ranks, which a program may forbid.
    world_reset, world_step = map(jax.numpy_rank_promotion("allow"), (world.reset, world.step))
    reference = jax.eval_shape(world_reset, jax.random.key(0))
    if getattr(reference.obs, "ndim", None) != 1:
        raise ValueError(f"brax: the observation must be an array [D], got {jax.tree.map(jnp.shape, reference.obs)}")

    def settle(state):
        return jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), state, reference)

    def reset(key: Array, params: PyTree) -> tuple[BraxState, Array]:
        state = settle(world_reset(key))
        return BraxState(state, jnp.int32(0)), state.obs

    def step(key: Array, params: PyTree, state: BraxState, action: Array) -> tuple[BraxState, Step]:
        following = settle(world_step(state.world, jnp.clip(action, -1.0, 1.0)))
        seen = Step(following.obs, jnp.asarray(following.reward, jnp.float32), following.done > 0, jnp.bool_(False))
        return BraxState(following, state.time + 1), time_limits.cut(seen, state.time, episode_length)

    return Env(
        params={},
        reset=reset,
        step=step,
        observation_space=spaces.Box(-jnp.inf, jnp.inf, reference.obs.shape),
        action_space=spaces.Box(-1.0, 1.0, (world.action_size,)),
        max_steps=int(episode_length),
    )


def _registry() -> dict[str, Any]:
    """Name -> class of Brax's environments."""
    found = getattr(_brax(), "_envs", None)  # Brax has no public list of names
    if not isinstance(found, dict):
        raise ValueError(
            f"{PREFIX} this version of brax keeps its environments in another place; install brax 0.14.2, or give "
            "pgjax.envs.brax.from_brax(world)"
        )
    return found


def _brax() -> Any:
    # Imported where it is used: the import takes seconds, and most of the package does without Brax.
    with dependencies.importing("brax", "brax", f"env {PREFIX}NAME"), _quiet():
        import brax.envs
    return brax.envs


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the prints and warnings of Brax and its imports about missing or newer physics engines."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield

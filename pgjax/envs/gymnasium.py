"""`from_gymnasium` makes an `Env` that is stepped in Python: `envs.make("gymnasium:LunarLander-v3")`.

A Gymnasium environment is an ordinary program: JAX compiles the learner, and `host_loop` steps the environments between
two calls of it. The Env's own reset and step only show shapes, and the reward of that step is NaN.

A named environment is stepped by one process for each core, where there are enough of it for that; one of your own by
this process alone, unless `from_gymnasium` is told otherwise, since environments of your own may share something.

Arrays are copied in both directions, since either side may write into its arrays again. `info` is dropped, because
nothing reads it.

A simulator's state can't be saved. A run that resumes from a checkpoint has its parameters, optimizer and statistics
back, but a stream begins new episodes there, with seeds of (lane, update). Whole episodes begin anew with every update
anyway, so they resume bit for bit.
"""

import functools
import inspect
import numbers
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pgjax import dependencies
from pgjax.envs import gymnasium_spaces, spaces
from pgjax.envs.gymnasium_simulators import Simulators
from pgjax.errors import unknown
from pgjax.types import Env, PyTree, Step

PREFIX = "gymnasium:"


LIMIT = "max_episode_steps"
FEW = 16  # environments for which a process of their own is not worth it


def from_name(name: str, **arguments: Any) -> Env:
    """The registered environment `name`, "gymnasium:ID", or "gymnasium:module:ID" of a module that registers it.

    Args:
      arguments: arguments of its constructor, and max_episode_steps, the time limit; none can be swept in one program.

    Raises:
      ValueError: for an unknown name or argument, an environment that can't be made, one without a time limit, or
        one whose spaces no policy could read or act in.
    """
    spec = _spec(name)
    accepted, open_ended = _signature(spec)
    for key in arguments:
        if key not in (LIMIT, *accepted) and not open_ended:
            raise ValueError(unknown(f"{name} takes no parameter", key, settable(name)))
    limit = arguments.pop(LIMIT, spec.max_episode_steps)
    if limit is None:
        raise ValueError(f"{name} has no time limit; set env.{LIMIT}")
    if limit < 1:
        raise ValueError(f"{name}: {LIMIT} must be 1 or more, got {limit}")
    build = functools.partial(_gymnasium().make, spec, max_episode_steps=limit, disable_env_checker=True, **arguments)
    return from_gymnasium(build, limit, name, _cores())


def known(name: str) -> bool:
    """Whether Gymnasium has an environment of this name, without the prefix."""
    return name in _gymnasium().registry


def names() -> list[str]:
    """The names that Gymnasium knows."""
    return list(_gymnasium().registry)


def settable(name: str) -> dict[str, Any]:
    """The name and default of every argument that can be set by name: numbers, words and switches."""
    spec = _spec(name)
    plain = {k: x for k, x in _signature(spec)[0].items() if isinstance(x, (bool, int, float, str))}
    return {LIMIT: spec.max_episode_steps or 0, **plain}


def from_gymnasium(build: Callable[[], Any], max_steps: int, name: str = "the environment", processes: int = 1) -> Env:
    """An Env of the user's own gymnasium environments.

    Args:
      build: () -> gymnasium.Env, a new environment at each call.
      max_steps: the time limit of an episode, in training and in evaluation: reaching it truncates. The environment
        may end an episode earlier.
      processes: between how many the environments of a run are divided, where `build` can be pickled (cloudpickle) and
        what it makes shares nothing.

    Raises:
      TypeError: where build is no function.
      ValueError: where the limit isn't a whole number of 1 or more, the environment can't be built, or its spaces are
        of another kind than Discrete, MultiDiscrete, MultiBinary, Box, and Dict and Tuple of these.
    """
    gymnasium = _gymnasium()
    if not callable(build):
        raise TypeError(
            f"build={build!r} must be a function that makes a new environment at each call; give lambda: ..."
        )
    if isinstance(processes, bool) or not isinstance(processes, numbers.Integral) or processes < 1:
        raise ValueError(f"processes={processes!r} must be a whole number of 1 or more")
    if isinstance(max_steps, bool) or not isinstance(max_steps, numbers.Integral) or max_steps < 1:
        raise ValueError(f"max_steps={max_steps!r} must be a whole number of 1 or more: the time limit, in steps")
    limit = int(max_steps)
    try:
        one = build()
    except Exception as error:  # the environment's author may raise anything
        raise _failed(name, error) from error
    if not isinstance(one, gymnasium.Env):
        raise ValueError(f"{name}: build returned {type(one).__name__}; return one gymnasium.Env at each call")
    observed, acted = one.observation_space, one.action_space
    one.close()

    seen, taken = gymnasium_spaces.converted(observed), gymnasium_spaces.converted(acted)
    spaces.check_observations(seen, name)
    spaces.check_actions(taken, name)
    shapes = spaces.parts(seen)

    def reset(key, params) -> tuple[PyTree, PyTree]:
        return (), jax.tree.map(lambda part: jnp.zeros(part.shape, part.dtype), shapes)

    def step(key, params, state, action) -> tuple[PyTree, Step]:
        return (), Step(reset(key, params)[1], jnp.float32(jnp.nan), jnp.bool_(False), jnp.bool_(False))

    return Env(
        params={},
        reset=reset,
        step=step,
        observation_space=seen,
        action_space=taken,
        max_steps=limit,
        host=lambda count: Simulators(build, count, limit, min(processes, max(1, count // FEW))),
    )


def _cores() -> int:
    """How many cores this process may use: one where it is a worker of many on this machine."""
    if os.environ.get("JAX_NUM_CPU_DEVICES") == "1":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _spec(name: str) -> Any:
    import importlib

    registry = _gymnasium().registry
    module, _, known_as = name.removeprefix(PREFIX).rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except Exception as error:
            raise ValueError(f"{name}: can't import {module!r}: {' '.join(str(error).split())}") from error
    if known_as not in registry:
        raise ValueError(unknown("no environment", name, [PREFIX + key for key in registry]))
    spec = registry[known_as]
    if spec.entry_point is None:
        raise ValueError(f"{name} has no single environment, only a vector of its own; choose another")
    return spec


def _signature(spec: Any) -> tuple[dict[str, Any], bool]:
    """The name and default of each constructor argument, None without one; and whether it takes any other name."""
    with dependencies.importing("gymnasium", "gymnasium"):
        from gymnasium.envs.registration import load_env_creator

    try:
        found = spec.entry_point if callable(spec.entry_point) else load_env_creator(spec.entry_point)
    except Exception as error:  # a package that the environment needs is missing
        raise _failed(f"{PREFIX}{spec.id}", error) from error
    every = inspect.signature(found).parameters.values()
    named = {p.name: p.default for p in every if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    named = {name: None if x is inspect.Parameter.empty else x for name, x in named.items()}
    return {**named, **spec.kwargs}, any(p.kind is p.VAR_KEYWORD for p in every)


def _failed(name: str, error: Exception) -> ValueError:
    """An error of the environment's own code in one line; for a failed import, with the package to install."""
    if isinstance(error, ImportError) and error.name:
        return dependencies.PackageError(f"{name}: {dependencies.explained(error, dependencies.of(error))}")
    return ValueError(f"{name}: {type(error).__name__}: {' '.join(str(error).split())}")


def _gymnasium() -> Any:
    # Imported where it is used: most of the package does without Gymnasium.
    with dependencies.importing("gymnasium", "gymnasium", f"env {PREFIX}ID"):
        import gymnasium
    return gymnasium

"""A Gymnasium environment in; an `Env` whose worlds are stepped on the host out: `make("gymnasium:LunarLander-v3")`.

Such a world is a program of its own, not arrays: JAX compiles the learner, and `outside` steps the worlds between.
Its reset and step only show shapes, and a reward that is asked of them is NaN.

A simulator's state can't be saved. A run that goes on from a checkpoint has the parameters, the optimizer and all
statistics of before, and a stream begins new episodes there, from seeds of (lane, update); whole episodes begin anew
with every update anyway, and go on bit for bit.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.plugs import unknown
from pgjax.types import Env, PyTree, Step

PREFIX = "gymnasium:"
LIMIT = "max_episode_steps"


def make(name: str, **arguments: Any) -> Env:
    """The registered environment `name`, "gymnasium:ID", or "gymnasium:module:ID" of a module that registers it.

    Args:
      arguments: of its constructor, and max_episode_steps, its time limit; none can be swept in one program.

    Raises:
      ValueError: for an unknown name or argument, an environment that can't be made, one without a time limit, or
        one whose spaces are neither Discrete nor Box.
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
    return from_gymnasium(build, limit, name)


def known(name: str) -> bool:
    """Whether Gymnasium has an environment of this name, without the prefix."""
    return name in _gymnasium().registry


def settable(name: str) -> dict[str, Any]:
    """Name -> default of what can be set by name: numbers, words and switches."""
    spec = _spec(name)
    plain = {k: x for k, x in _signature(spec)[0].items() if isinstance(x, (bool, int, float, str))}
    return {LIMIT: spec.max_episode_steps or 0, **plain}


def from_gymnasium(build: Callable[[], Any], max_steps: int, name: str = "the environment") -> Env:
    """An Env of the user's own gymnasium environments.

    Args:
      build: () -> gymnasium.Env, one world, which ends its episodes itself by `max_steps`, as TimeLimit makes it.

    Raises:
      ValueError: where it can't be built, or its spaces are neither Discrete nor Box.
    """
    gymnasium = _gymnasium()
    try:
        one = build()
    except Exception as error:  # whatever the world's author raises
        raise ValueError(f"{name}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    observed, acted = one.observation_space, one.action_space
    one.close()

    def host(count: int) -> Simulators:
        mode = gymnasium.vector.AutoresetMode.SAME_STEP
        return Simulators(gymnasium.vector.SyncVectorEnv([build] * count, autoreset_mode=mode))

    space = _space(observed, f"{name}: observations")

    def reset(key, params) -> tuple[PyTree, PyTree]:
        return (), jnp.zeros(space.shape, space.dtype)

    def step(key, params, state, action) -> tuple[PyTree, Step]:
        return (), Step(reset(key, params)[1], jnp.float32(jnp.nan), jnp.bool_(False), jnp.bool_(False))

    return Env(
        params={},
        reset=reset,
        step=step,
        observation_space=space,
        action_space=_space(acted, f"{name}: actions"),
        max_steps=int(max_steps),
        host=host,
    )


class Simulators:
    """N worlds of one vector environment, each reset by itself in the step that ends its episode."""

    def __init__(self, worlds: Any):
        self.worlds = worlds
        self.observed, self.acted = worlds.single_observation_space, worlds.single_action_space

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """The first observations [N, ...] of worlds with these seeds [N]."""
        return self._seen(self.worlds.reset(seed=[int(x) for x in seeds])[0])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, Step]:
        """What comes next [N, ...], after a reset where an episode ended; and the Step [N], before any reset.

        Actions of a Box are clipped to its bounds.
        """
        if hasattr(self.acted, "low"):
            action = np.clip(action, self.acted.low, self.acted.high).astype(self.acted.dtype)
        else:
            action = action + self.acted.start
        obs, reward, terminated, truncated, infos = self.worlds.step(action)
        obs = self._seen(obs)
        next_obs = obs
        if ended := np.flatnonzero(terminated | truncated).tolist():
            next_obs = obs.copy()
            next_obs[ended] = self._seen(np.stack([infos["final_obs"][i] for i in ended]))
        return obs, Step(next_obs, reward.astype(np.float32), terminated, truncated & ~terminated)

    def close(self) -> None:
        self.worlds.close()

    def _seen(self, obs: np.ndarray) -> np.ndarray:
        start = getattr(self.observed, "start", 0)
        return np.asarray(obs - start if start else obs, _dtype(self.observed))


def _space(space: Any, what: str) -> Any:
    """The gymnax space of a gymnasium space."""
    from gymnasium import spaces
    from gymnax.environments import spaces as ours

    if isinstance(space, spaces.Discrete):
        return ours.Discrete(int(space.n))
    if isinstance(space, spaces.Box) and what == "actions" and not np.issubdtype(space.dtype, np.floating):
        raise ValueError(f"a Box of actions must be of real numbers, got {space.dtype}")
    if isinstance(space, spaces.Box):
        return ours.Box(space.low, space.high, space.shape, _dtype(space))
    raise ValueError(f"{what} must be of a Discrete or a Box, got {type(space).__name__}")


def _dtype(space: Any) -> Any:
    # A Discrete says int64, a simulator of physics float64: more than JAX has by default.
    return np.dtype(np.int32) if hasattr(space, "start") else jax.dtypes.canonicalize_dtype(space.dtype)


def _spec(name: str) -> Any:
    import importlib

    registry = _gymnasium().registry
    module, _, known_as = name.removeprefix(PREFIX).rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(f"{name}: can't import {module!r}: {error}") from error
    if known_as not in registry:
        raise ValueError(unknown("no environment", name, [PREFIX + key for key in registry]))
    spec = registry[known_as]
    if spec.entry_point is None:
        raise ValueError(f"{name} has no single environment, only a vector of its own; choose another")
    return spec


def _signature(spec: Any) -> tuple[dict[str, Any], bool]:
    """Name -> default of what the constructor takes, None where it has none; and whether it takes any other name."""
    from gymnasium.envs.registration import load_env_creator

    try:
        found = spec.entry_point if callable(spec.entry_point) else load_env_creator(spec.entry_point)
    except Exception as error:  # a package that the world is made of is missing
        raise ValueError(f"{PREFIX}{spec.id}: {' '.join(str(error).split())}") from error
    every = inspect.signature(found).parameters.values()
    named = {p.name: p.default for p in every if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    named = {name: None if x is inspect.Parameter.empty else x for name, x in named.items()}
    return {**named, **spec.kwargs}, any(p.kind is p.VAR_KEYWORD for p in every)


def _gymnasium():
    # Imported where it is used: most of the package needs none of it.
    try:
        import gymnasium
        from gymnasium.vector import AutoresetMode  # noqa: F401  (from 1.1 on)
    except ImportError as error:
        raise ValueError(f"{PREFIX} needs gymnasium >= 1.1: pip install pgjax[gymnasium] ({error})") from error
    return gymnasium

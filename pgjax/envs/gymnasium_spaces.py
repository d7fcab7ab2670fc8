"""Spaces of Gymnasium as those of this package, and the values of the one as values of the other."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from pgjax import dependencies
from pgjax.envs import spaces
from pgjax.types import PyTree


def seen(space: Any, obs: PyTree) -> PyTree:
    """Observations [N, ...] of a gymnasium space as those of `converted`: whole numbers from 0 on, in JAX's types."""
    inside = getattr(space, "spaces", None)
    if isinstance(inside, Mapping):
        return {name: seen(part, obs[name]) for name, part in inside.items()}
    if inside is not None:
        return tuple(seen(part, x) for part, x in zip(inside, obs, strict=True))
    start = getattr(space, "start", None)
    return np.asarray(obs if start is None or not np.any(start) else obs - start, dtype(space))


def taken(space: Any, action: PyTree) -> PyTree:
    """Actions [N, ...] as a gymnasium space has them."""
    inside = getattr(space, "spaces", None)
    if isinstance(inside, Mapping):
        return {name: taken(part, action[name]) for name, part in inside.items()}
    if inside is not None:
        return tuple(taken(part, x) for part, x in zip(inside, action, strict=True))
    if spaces.is_box(space):
        action = np.clip(action, space.low, space.high)
    elif (start := getattr(space, "start", None)) is not None:
        action = action + start
    return np.asarray(action, space.dtype)


def layout(space: Any) -> Any:
    """The (shape, dtype) of a value of a gymnasium space, or a tree of them."""
    inside = getattr(space, "spaces", None)
    if isinstance(inside, Mapping):
        return {name: layout(part) for name, part in inside.items()}
    if inside is not None:
        return tuple(layout(part) for part in inside)
    return tuple(space.shape), np.dtype(space.dtype)


def converted(space: Any) -> Any:
    """The gymnax space, or MultiDiscrete, of a gymnasium space; one of another kind is given back as it is."""
    with dependencies.importing("gymnax"):
        from gymnax.environments import spaces as ours

    inside = getattr(space, "spaces", None)
    if isinstance(inside, Mapping):
        return ours.Dict({name: converted(part) for name, part in inside.items()})
    if inside is not None:
        return ours.Tuple(tuple(converted(part) for part in inside))
    if spaces.is_discrete(space):
        return ours.Discrete(int(space.n))
    if spaces.is_multi_discrete(space):
        return spaces.MultiDiscrete(space.nvec)
    if type(space).__name__ == "MultiBinary" and len(space.shape) == 1:
        return spaces.MultiDiscrete([2] * space.shape[0])
    return ours.Box(space.low, space.high, space.shape, dtype(space)) if spaces.is_box(space) else space


def dtype(space: Any) -> Any:
    # A Discrete declares int64 and a physics engine float64, which JAX doesn't have by default.
    return jax.dtypes.canonicalize_dtype(space.dtype) if spaces.is_box(space) else np.dtype(np.int32)

"""What the adapters of other packages' JAX environments share: arguments, plain observations, equal types in a scan."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.dependencies import importing
from pgjax.envs.parameters import time_limit
from pgjax.errors import unknown
from pgjax.types import PyTree

# Runs a package's function with rank promotion allowed: packages add arrays of different ranks, which a program may
# forbid.
ranked: Callable[[Any], Any] = jax.numpy_rank_promotion("allow")


def known(prefix: str, name: str, names: list[str]) -> str:
    """The name without its prefix; ValueError with the nearest one where the package has no such environment."""
    short = name.removeprefix(prefix)
    if short not in names:
        raise ValueError(unknown("no environment", name, [prefix + x for x in names]))
    return short


def check_arguments(name: str, given: dict[str, Any], settable: Mapping[str, Any], limit: str) -> None:
    """ValueError for an argument that can't be set, or a value of another kind than the default's.

    Args:
      limit: the argument that is the time limit.
    """
    for argument, value in given.items():
        if argument not in settable:
            raise ValueError(unknown(f"{name} takes no parameter", argument, settable))
        default = settable[argument]
        if argument == limit:
            time_limit(f"{name}: {argument}", value)
            continue
        kinds = (int, float) if type(default) is float else (type(default),)
        if type(value) not in kinds or (type(default) is int and value < 1):
            raise ValueError(f"{name}: {argument}={value!r} must be like its default {default!r}")


def settler(reference: PyTree) -> Callable[[PyTree], PyTree]:
    """A function that gives a tree's leaves the types of the reference's: a scan needs equal types at both its ends."""
    return lambda tree: jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), tree, reference)


def plain(tree: PyTree) -> PyTree:
    """The tree with NamedTuples, dataclasses and other mappings as dicts."""
    if hasattr(tree, "_asdict"):
        tree = tree._asdict()
    elif dataclasses.is_dataclass(tree):
        tree = {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree)}
    return {name: plain(part) for name, part in tree.items()} if isinstance(tree, Mapping) else tree


def space(obs: PyTree, bounds: Callable[[str, Any], tuple[Any, Any]] | None = None, name: str = "") -> Any:
    """The space of an observation, a dict of arrays or an array, given as shapes and types.

    Args:
      bounds: (path, shape and type) -> the least and the greatest value of an array; the path of an array inside is
        "position.row". By default all values of an integer type, and no bounds for real numbers.
    """
    with importing("gymnax"):
        from gymnax.environments import spaces as kinds
    if isinstance(obs, Mapping):
        parts = {key: space(part, bounds, f"{name}.{key}".removeprefix(".")) for key, part in obs.items()}
        return kinds.Dict(parts)
    low, high = (bounds or every)(name, obs)
    return kinds.Box(low, high, obs.shape, obs.dtype)


def every(_: str, like: Any) -> tuple[Any, Any]:
    """The least and the greatest value of a type; no bounds for real numbers."""
    if like.dtype == bool:
        return 0, 1
    if np.issubdtype(like.dtype, np.integer):
        return int(np.iinfo(like.dtype).min), int(np.iinfo(like.dtype).max)
    return -np.inf, np.inf

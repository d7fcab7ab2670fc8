"""Helpers of the conformance checks."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp


def require(condition: Any, message: str) -> None:
    """Raise an AssertionError with the message where the condition doesn't hold."""
    if not bool(condition):
        raise AssertionError(message)


@contextlib.contextmanager
def required() -> Iterator[None]:
    """Turn the error of a check that a run makes too into an AssertionError with the same message."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise AssertionError(str(error)) from error


def kind(x: Any) -> tuple[Any, ...]:
    """Shape and type of an array."""
    return jnp.shape(x), jnp.asarray(x).dtype


def same_structure(a: Any, b: Any) -> bool:
    """Whether two trees have the same structure."""
    one: Any = jax.tree.structure(a)
    return bool(one == jax.tree.structure(b))


def same_kinds(a: Any, b: Any) -> bool:
    """Whether two trees have the same structure, and arrays of the same shapes and types."""
    return same_structure(a, b) and kinds(a) == kinds(b)


def kinds(tree: Any) -> list[tuple[Any, ...]]:
    """Shape and type of every array of a tree. (Trees of them aren't compared: a node may have an == of its own.)"""
    return [kind(x) for x in jax.tree.leaves(tree)]


def close(a: Any, b: Any, tolerance: float = 1e-5) -> bool:
    """Whether two trees hold the same numbers within the tolerance; integers and bools exactly."""

    def near(x, y):
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return bool(jnp.all(x == y))
        return bool(jnp.allclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True))

    return all(jax.tree.leaves(jax.tree.map(near, a, b)))

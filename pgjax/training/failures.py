"""Freezes a lane whose parameters are no longer finite: the lane keeps its last finite state."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgjax.types import Array, PyTree


class Unselected(NamedTuple):
    """State that `train` does not restore after a failed update.

    Restoring it would need the old and the new buffer at once, so every update would copy the whole buffer to change a
    few rows.
    """

    value: PyTree


def unselected(tree: PyTree) -> list[PyTree]:
    """The parts of a state that a learner has wrapped in `failures.Unselected`."""
    lasting = lambda x: isinstance(x, Unselected)  # noqa: E731
    return [x for x in jax.tree.leaves(tree, is_leaf=lasting) if lasting(x)]


def selected(finite: Array, new: PyTree, old: PyTree) -> PyTree:
    """`new` where the update is finite, else `old`; always `new` for `Unselected` parts."""
    lasting = lambda x: isinstance(x, Unselected)  # noqa: E731
    pick = lambda new, old: new if lasting(new) else jnp.where(finite, new, old)  # noqa: E731
    return jax.tree.map(pick, new, old, is_leaf=lasting)


def all_finite(tree: PyTree) -> Array:
    """[] bool: every number of the tree is finite."""
    leaves = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.all(jnp.stack(leaves)) if leaves else jnp.bool_(True)

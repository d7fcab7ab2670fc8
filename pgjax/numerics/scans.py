"""A step and its inputs in; a scan that ends early out."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pgjax.types import Array, PyTree


@jax.custom_batching.custom_vmap
def any_lane(x: Array) -> Array:
    """[] bool: whether any number of `x` is true; under vmap, in any lane, and so the same for all of them."""
    return jnp.any(x)


@any_lane.def_vmap
def _any_lane_batched(axis_size: int, in_batched: list[bool], x: Array) -> tuple[Array, bool]:
    return any_lane(x), False


def remaining(mask: Array) -> Array:
    """[I] bool: whether anything of mask [I, ...] counts in this row or behind it."""
    counts = jnp.any(mask > 0, axis=tuple(range(1, mask.ndim)))
    return jax.lax.cummax(counts.astype(jnp.int32), reverse=True) > 0


def scan_while(
    step: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    carry: PyTree,
    inputs: PyTree,
    going: Callable[[PyTree, PyTree], Array],
) -> tuple[PyTree, PyTree]:
    """lax.scan(step, carry, inputs), which a CPU leaves as soon as nothing is going on in any lane.

    So `step` must change nothing that counts from there on. The rows that a CPU leaves out are zero. Elsewhere it is
    the scan itself: a GPU would have to ask its host after each step. Not differentiable in reverse.

    Args:
      going: (carry, the next step's inputs) -> bool array of any shape.
    """
    if jax.default_backend() != "cpu":
        return jax.lax.scan(step, carry, inputs)
    length = len(jax.tree.leaves(inputs)[0])
    at = lambda i: jax.tree.map(lambda x: x[i], inputs)  # noqa: E731
    like = jax.eval_shape(lambda: step(carry, at(0))[1])
    rows = jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), like)

    def again(state):
        i, carry, _ = state
        return (i < length) & any_lane(going(carry, at(i)))

    def advance(state):
        i, carry, rows = state
        carry, row = step(carry, at(i))
        return i + 1, carry, jax.tree.map(lambda rows, row: rows.at[i].set(row), rows, row)

    return jax.lax.while_loop(again, advance, (0, carry, rows))[1:]

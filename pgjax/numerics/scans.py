"""`scan_while`: a `lax.scan` that, on CPU, stops once no lane has work left."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pgjax.types import Array, PyTree


@jax.custom_batching.custom_vmap
def any_lane(x: Array) -> Array:
    """[] bool: whether any number of `x` is true; under vmap, whether one is in any lane, so all lanes agree."""
    return jnp.any(x)


@any_lane.def_vmap
def _any_lane_batched(axis_size: int, in_batched: list[bool], x: Array) -> tuple[Array, bool]:
    return any_lane(x), False


def remaining(mask: Array) -> Array:
    """[I] bool: whether the mask [I, ...] counts anything in this row or a later one."""
    counts = jnp.any(mask > 0, axis=tuple(range(1, mask.ndim)))
    return jax.lax.cummax(counts.astype(jnp.int32), reverse=True) > 0


def scan_while(
    step: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    carry: PyTree,
    inputs: PyTree,
    going: Callable[[PyTree, PyTree], Array],
) -> tuple[PyTree, PyTree]:
    """lax.scan(step, carry, inputs), which ends early on a CPU: as soon as `going` is false in every lane.

    From there on `step` must change nothing that counts. The rows that a CPU leaves out are zero. On other devices the
    scan runs to its end, since a GPU would have to ask its host after each step. It has no reverse-mode derivative.

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

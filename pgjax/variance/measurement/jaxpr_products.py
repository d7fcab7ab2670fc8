"""Finds, in a function's jaxpr, the matrix products through which each parameter enters.

An interpreter of the jaxpr hands each product to a `tap`, which may look at the input of the product and add an
offset to its output: the gradient by that offset is the cotangent of the product.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Literal

from pgjax.types import Array, PyTree, Trajectory


def trace(output: Callable[..., Array], params: PyTree, trajectory: Trajectory, extra: PyTree = ()) -> ClosedJaxpr:
    """The jaxpr of output(params, trajectory, extra), with the leaves of the three as its inputs."""
    leaves, tree = jax.tree.flatten((params, trajectory, extra))
    return jax.make_jaxpr(lambda *flat: output(*jax.tree.unflatten(tree, flat)))(*leaves)


def needed(jaxpr: Any) -> set[Any]:
    """The variables that the output depends on."""
    needed = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    for eqn in reversed(jaxpr.eqns):
        if any(v in needed for v in eqn.outvars):
            needed.update(v for v in eqn.invars if not isinstance(v, Literal))
    return needed


class Tap:
    """Adds an offset to each product, and keeps the input of the product."""

    def __init__(self, offsets: dict[int, Array]) -> None:
        self.offsets = offsets
        self.inputs: dict[int, Array | None] = {}

    def __call__(self, leaf: int, entered: Array | None, output: Array) -> Array:
        self.inputs[leaf] = entered
        return output + self.offsets[leaf]


def sites_of(closed: ClosedJaxpr, inputs: list[Array], wanted: set[int]) -> dict[int, tuple[tuple[int, ...], Any]]:
    """Leaf -> shape and type of the one product or sum [T, B, ..., out] by which it enters; others are left out."""
    seen: dict[int, list[Any]] = {i: [] for i in wanted}
    shape = closed.jaxpr.outvars[0].aval.shape

    def note(leaf, entered, output):
        sound = output.shape[:2] == shape and (entered is None or entered.shape[:2] == shape)
        seen[leaf].append((output.shape, output.dtype) if sound else None)
        return output

    def other(leaf):
        seen[leaf].append(None)

    jax.eval_shape(lambda flat: run(closed, flat, wanted, note, other), inputs)
    return {i: uses[0] for i, uses in seen.items() if len(uses) == 1 and uses[0] is not None}


def run(
    closed: ClosedJaxpr,
    inputs: list[Array],
    wanted: set[int],
    tap: Callable[[int, Array | None, Array], Array],
    other: Callable[[int], None] = lambda leaf: None,
) -> Array:
    """The value of the jaxpr, with `tap` where a wanted leaf enters by a product or a sum over the last axis."""
    marks = [i if i in wanted else None for i in range(len(inputs))]
    return _interpret(closed.jaxpr, closed.consts, inputs, marks, tap, other)[0]


def _interpret(
    jaxpr: Any,
    consts: Sequence[Any],
    inputs: list[Array],
    marks: list[int | None],
    tap: Callable[[int, Array | None, Array], Array],
    other: Callable[[int], None],
) -> list[Array]:
    """The outputs of a jaxpr whose inputs carry marks: the leaf that each is, or None."""
    values = dict(zip(jaxpr.constvars, consts, strict=True)) | dict(zip(jaxpr.invars, inputs, strict=True))
    marked = {v: i for v, i in zip(jaxpr.invars, marks, strict=True) if i is not None}
    useful = needed(jaxpr)

    def read(v):
        return v.val if isinstance(v, Literal) else values[v]

    for eqn in jaxpr.eqns:
        if not any(v in useful for v in eqn.outvars):
            continue
        arguments = [read(v) for v in eqn.invars]
        found = [None if isinstance(v, Literal) else marked.get(v) for v in eqn.invars]
        leaves, name = [leaf for leaf in found if leaf is not None], eqn.primitive.name
        if name in ("jit", "pjit"):
            inner = eqn.params["jaxpr"]
            outputs = _interpret(inner.jaxpr, inner.consts, arguments, found, tap, other)
        else:
            outputs = eqn.primitive.bind(*arguments, **eqn.primitive.get_bind_params(eqn.params))
            outputs = outputs if eqn.primitive.multiple_results else [outputs]
            if name == "dot_general" and found[0] is None and found[1] is not None and _is_product(eqn):
                outputs = [tap(found[1], arguments[0], outputs[0])]
            elif name == "add" and len(leaves) == 1:
                outputs = [tap(leaves[0], None, outputs[0])]
            elif name in ("reshape", "broadcast_in_dim") and _is_row(eqn):
                # A bias made ready: still the leaf itself, along the last axis.
                marked.update({v: i for v, i in zip(eqn.outvars, found[:1], strict=True) if i is not None})
            else:
                for leaf in leaves:
                    other(leaf)
        values.update(zip(eqn.outvars, outputs, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _is_product(eqn: Any) -> bool:
    """x [..., in] times W [in, out]."""
    x, w = (v.aval for v in eqn.invars)
    return w.ndim == 2 and eqn.params["dimension_numbers"] == (((x.ndim - 1,), (0,)), ((), ()))


def _is_row(eqn: Any) -> bool:
    """[out] to [1, ..., 1, out]."""
    before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    return len(before) == 1 and after == (1,) * (len(after) - 1) + before

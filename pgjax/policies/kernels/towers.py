"""A multi-layer perceptron as one kernel forward and one backward.

XLA writes every hidden activation to memory and reads it back. Here a program keeps the activations of a
block of rows to itself; the backward kernel computes them once more from the input, and adds up the
gradients of its blocks. The programs' sums are added afterwards.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgjax.policies.kernels import emitter

# (rows of a block, warps of a program). More rows of exact products for fewer warps spill registers: the backward
# kernel of two 64-wide layers, compiled for sm_90, spills 31 kB a thread with (64, 4), and nothing with (32, 8).
TILES = {jax.lax.Precision.HIGHEST: (32, 8), jax.lax.Precision.HIGH: (64, 4)}


SPAN = 512  # rows that a program works through, block after block


PROGRAMS = 1024  # at most for one tower: each writes a gradient of its own


WIDEST, DEEPEST = 64, 6  # outputs of a layer and layers: beyond them registers spill, or shared memory runs out


# The activation h(z), and its pullback written in h.
ACTIVATIONS = {
    "tanh": (jnp.tanh, lambda g, h: g * (1 - h * h)),
    "relu": (lambda z: jnp.maximum(z, 0.0), lambda g, h: jnp.where(h > 0, g, 0.0)),
}


Layers = Sequence[tuple[jax.Array, jax.Array]]


class How(NamedTuple):
    """The static options of a tower."""

    activation: str
    precision: jax.lax.Precision
    approximate: bool


def plain(layers: Layers, x: jax.Array, activation: str = "tanh", *, precision: str | None = None) -> jax.Array:
    """The function that `tower` computes, in plain JAX: its oracle."""
    *hidden, last = layers
    for layer in hidden:
        x = ACTIVATIONS[activation][0](_dense(layer, x, precision))
    return _dense(last, x, precision)


def tower(
    layers: Layers,
    x: jax.Array,
    activation: str = "tanh",
    *,
    precision: str | None = None,
    approximate: bool = False,
) -> jax.Array:
    """h_0 = x, h_l = activation(h_{l-1} W_l + b_l), and the last layer linear.

    Args:
      layers: (W_l [I, O], b_l [O]) of 6 layers at most, float32. Widths are padded to powers of two from 16
        to 64.
      x: [..., D] float32. A D above 64 leaves the first layer to XLA.
      activation: "tanh" or "relu".
      precision: of the products: None or "highest" is float32, "tf32" lets tensor cores round the factors
        to 10 bits of mantissa.
      approximate: the hardware's tanh, with a relative error of about 2^-11, where there is one.

    Returns:
      [..., K]. It has gradients with respect to layers and x, of first order and in reverse mode only:
      TypeError or NotImplementedError for others.
    """
    _check(layers, x, activation, precision)
    if x.shape[-1] > WIDEST:
        first, *layers = layers
        x = _dense(first, x, precision)
        if not layers:
            return x
        x = ACTIVATIONS[activation][0](x)

    how = How(activation, emitter.PRECISIONS[precision], approximate)
    size, _ = TILES[how.precision]
    count, outputs = math.prod(x.shape[:-1]), layers[-1][1].shape[0]
    blocks = max(1, -(-count // size))
    programs = -(-blocks // max(SPAN // size, -(-blocks // PROGRAMS)))
    blocks = -(-blocks // programs)
    rows = _pad(x.reshape(count, x.shape[-1]), programs * blocks * size, _side(x.shape[-1]))
    padded = [(_pad(w, *map(_side, w.shape)), _pad(b, _side(b.shape[0]))) for w, b in layers]
    y = _apply(how, padded, rows.reshape(programs, blocks, size, -1))
    return y.reshape(programs * blocks * size, -1)[:count, :outputs].reshape(*x.shape[:-1], outputs)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _apply(how: How, layers: Layers, x: Any) -> jax.Array:
    """Padded layers, x [programs, blocks, rows, D] -> [programs, blocks, rows, K]."""
    programs, blocks, rows, _ = x.shape
    weights = jax.tree.leaves(layers)

    def body(tanh, *refs):
        x, y = refs[len(weights) :]
        *hidden, (kernel, bias) = _pairs([ref[...] for ref in refs[: len(weights)]])

        def block(i, nothing):
            h = _activations(how, tanh, hidden, x[i])[-1]
            y[i] = emitter.dot(h, kernel, (1, 0), how.precision) + bias[None, :]
            return nothing

        jax.lax.fori_loop(0, blocks, block, 0)

    shape = (blocks, rows, layers[-1][1].shape[0])
    return emitter.launch(body, programs, weights, [x], [shape], warps=TILES[how.precision][1])[0]


def _forward(how: How, layers: Layers, x: Any) -> tuple[jax.Array, Any]:
    wanted = () if x.perturbed else None  # a structure, so that it stays static
    layers, x = jax.custom_derivatives.custom_vjp_primal_tree_values((layers, x))
    return _apply(how, layers, x), (layers, x, wanted)


def _backward(how: How, kept: Any, g: Any) -> tuple[Layers, jax.Array | None]:
    layers, x, wanted = kept
    if isinstance(g, jax.custom_derivatives.SymbolicZero):
        g = jnp.zeros(g.shape, g.dtype)
    programs, blocks = x.shape[:2]
    weights = jax.tree.leaves(layers)
    count = len(weights)

    def body(tanh, *refs):
        values = _pairs([ref[...] for ref in refs[:count]])
        (x, g), gradients, to_input = refs[count : count + 2], refs[count + 2 : 2 * count + 2], refs[2 * count + 2 :]

        def block(i, sums):
            h, z, sums = _activations(how, tanh, values[:-1], x[i]), g[i], list(sums)
            for layer in reversed(range(len(values))):
                sums[2 * layer] += emitter.dot(h[layer], z, (0, 0), how.precision)
                sums[2 * layer + 1] += jnp.sum(z, axis=0)
                if layer or to_input:
                    z = emitter.dot(z, values[layer][0], (1, 1), how.precision)
                if layer:
                    z = ACTIVATIONS[how.activation][1](z, h[layer])
            for ref in to_input:
                ref[i] = z
            return tuple(sums)

        sums = jax.lax.fori_loop(0, blocks, block, tuple(jnp.zeros(w.shape, jnp.float32) for w in weights))
        for ref, total in zip(gradients, sums, strict=True):
            ref[...] = total

    # Observations usually need no gradient, but a kernel would compute an unused result too.
    shapes = [w.shape for w in weights] + ([] if wanted is None else [x.shape[1:]])
    results = emitter.launch(body, programs, weights, [x, g], shapes, warps=TILES[how.precision][1])
    sums = _pairs([jnp.sum(partial, axis=0) for partial in results[:count]])
    return sums, None if wanted is None else results[count]


_apply.defvjp(_forward, _backward, symbolic_zeros=True)


def _activations(how: How, tanh: Callable[[Any], Any], hidden: Layers, x: Any) -> list[Any]:
    """[h_0, ..., h_L] of one block, [rows, width] each."""
    activation = tanh if how.approximate and how.activation == "tanh" else ACTIVATIONS[how.activation][0]
    h = [x]
    for kernel, bias in hidden:
        h.append(activation(emitter.dot(h[-1], kernel, (1, 0), how.precision) + bias[None, :]))
    return h


def _pairs(flat: Sequence[Any]) -> list[tuple[Any, Any]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _dense(layer: tuple[jax.Array, jax.Array], x: Any, precision: str | None) -> jax.Array:
    kernel, bias = layer
    y = jnp.matmul(x, kernel, precision=emitter.PRECISIONS[precision])
    return y + bias.reshape((1,) * (y.ndim - 1) + bias.shape)


def _pad(x: jax.Array, *shape: int) -> jax.Array:
    """x padded with zeros to `shape`, which change neither an output nor a gradient."""
    return jnp.pad(x, [(0, new - old) for old, new in zip(x.shape, shape, strict=True)])


def _side(width: int) -> int:
    return max(emitter.SMALLEST, 1 << (width - 1).bit_length())


def _check(layers: Layers, x: jax.Array, activation: str, precision: str | None) -> None:
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {activation!r}")
    if precision not in emitter.PRECISIONS:
        raise ValueError(f"precision must be None, 'highest' or 'tf32'; got {precision!r}")
    if not layers or jnp.ndim(x) < 1:
        raise ValueError(f"a tower needs layers and x [..., D]; got {len(layers)} layers, x of shape {jnp.shape(x)}")
    for name, array in (("x", x), *((f"layers[{i}]", a) for i, layer in enumerate(layers) for a in layer)):
        if array.dtype != jnp.float32:
            raise ValueError(f"a fused tower computes in float32, {name} is {array.dtype}; use kernel='xla'")
    if len(layers) > DEEPEST:
        raise ValueError(f"layers are {len(layers)}, of a fused tower at most {DEEPEST}; use kernel='xla'")
    inputs = x.shape[-1]
    for i, (kernel, bias) in enumerate(layers):
        if kernel.ndim != 2 or bias.shape != kernel.shape[1:] or kernel.shape[0] != inputs:
            raise ValueError(f"layers[{i}] must be [{inputs}, O] and [O], got {kernel.shape} and {bias.shape}")
        inputs = kernel.shape[1]
        if inputs > WIDEST:
            raise ValueError(f"layers[{i}] has {inputs} outputs, a fused tower at most {WIDEST}; use kernel='xla'")

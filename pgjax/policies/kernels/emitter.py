"""`launch` runs a kernel's body: the one file that knows Pallas and its Triton backend.

The device of a program is known when it is lowered, not when it is traced. For CUDA and ROCm the
body becomes a Triton kernel; everywhere else the same body goes through Pallas' interpreter, which
is slow and serves tests. From jax 0.11 on, lowering the Triton kernel gives a DeprecationWarning.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

# The Triton backend computes HIGHEST in IEEE float32 on the arithmetic units, HIGH in TF32 on the tensor cores.
PRECISIONS = {None: jax.lax.Precision.HIGHEST, "highest": jax.lax.Precision.HIGHEST, "tf32": jax.lax.Precision.HIGH}


SMALLEST = 16  # sides of a product: powers of two, none below this


def launch(
    body: Callable[..., None],
    programs: int,
    whole: Sequence[jax.Array],
    split: Sequence[jax.Array],
    results: Sequence[tuple[int, ...]],
    *,
    warps: int = 4,
) -> list[jax.Array]:
    """Runs `body` once for each program, side by side.

    Args:
      body: `(tanh, *refs) -> None` on references to arrays: those of `whole`, of `split`, of the results.
        `tanh` is the hardware's approximate one, or `jnp.tanh` on other hardware.
      programs: how many; `vmap` multiplies them.
      whole: arrays that each program reads in full.
      split: arrays [programs, ...] of which each program reads its own row.
      results: shapes [...] of the arrays that each program writes, float32.
      warps: of 32 threads, for each program.

    Returns:
      arrays [programs, ...]. A kernel has no derivative of its own: NotImplementedError where one is needed.
    """

    def run(interpret, *arrays):
        pallas, params, tanh = _backend(warps)

        def spec(shape, own):
            if own:
                return pallas.BlockSpec((None, *shape), lambda i: (i, *(0 for _ in shape)))
            return pallas.BlockSpec(shape, lambda i: tuple(0 for _ in shape))

        call = pallas.pallas_call(
            functools.partial(body, jnp.tanh if interpret else tanh),
            out_shape=[jax.ShapeDtypeStruct((programs, *shape), jnp.float32) for shape in results],
            grid=(programs,),
            in_specs=[spec(a.shape, False) for a in whole] + [spec(a.shape[1:], True) for a in split],
            out_specs=[spec(shape, True) for shape in results],
            compiler_params=params,
            interpret=interpret,
        )
        return call(*arrays)

    @jax.custom_jvp
    def anywhere(*arrays):
        device = functools.partial(run, False)
        return jax.lax.platform_dependent(*arrays, cuda=device, rocm=device, default=functools.partial(run, True))

    @anywhere.defjvp
    def refuse(primals, tangents):
        raise NotImplementedError("a fused tower has first derivatives only, in reverse mode; use kernel='xla'")

    return anywhere(*whole, *split)


def dot(a: Any, b: Any, over: tuple[int, int], precision: jax.lax.Precision) -> Any:
    """Product of two matrices over axis `over[0]` of `a` and `over[1]` of `b`."""
    axes = (((over[0],), (over[1],)), ((), ()))
    return jax.lax.dot_general(a, b, axes, precision=precision, preferred_element_type=jnp.float32)


def _backend(warps: int) -> tuple[Any, Any, Callable[[Any], Any]]:
    """Pallas, the compiler's parameters and the hardware's tanh. Both modules are slow to import."""
    from jax.experimental import pallas
    from jax.experimental.pallas import triton

    return pallas, triton.CompilerParams(num_warps=warps, num_stages=1), triton.approx_tanh

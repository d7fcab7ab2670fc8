"""The orthogonal initialiser of a layer's weights, without a LAPACK call: see `networks`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pgjax.types import Array


def orthogonal(scale: float) -> Callable[..., Array]:
    """Initialiser: a uniformly random (semi-)orthogonal matrix times `scale`, by Gram-Schmidt."""

    def init(key, shape, dtype=jnp.float32):
        rows, columns = shape
        long, short = max(rows, columns), min(rows, columns)
        vectors = jax.random.normal(key, (short, long), dtype)

        def step(basis, inputs):
            i, v = inputs
            for _ in range(2):  # the second time removes rounding errors
                v = v - (basis @ v) @ basis
            return basis.at[i].set(v / jnp.linalg.norm(v)), None

        start = jnp.zeros((short, long), dtype)
        basis, _ = jax.lax.scan(step, start, (jnp.arange(short), vectors))
        return scale * (basis.T if rows == long else basis)

    return init

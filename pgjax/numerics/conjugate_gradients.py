"""Conjugate gradients (Hestenes & Stiefel 1952), stopped where only rounding errors remain."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from pgjax.types import Array, PyTree


def conjugate_gradients(product: Callable[[PyTree], PyTree], b: PyTree, iterations: int) -> tuple[PyTree, Array]:
    """x with A x = b, A symmetric and positive definite, from x = 0 (Hestenes & Stiefel 1952).

    The trip count is fixed, and an iteration changes nothing once the residual is within the rounding of b, or where
    the next direction's curvature p^T A p / |p|^2 is within the rounding of the largest so far: to rounding A is
    singular there, and a step would follow its null space. So x is that of the pseudo-inverse
    where A is singular and b is in its range but for rounding; of a regular A with a condition of 1e6 and
    more, float32 leaves some tenths of a percent. Where the residual once was within a thousand roundings of b, x is
    the one at which it was smallest, since from there on rounding alone moves it. b = 0 gives x = 0, and NaN in b
    gives NaN.

    Args:
      product: v -> A v on trees.

    Returns:
      x, and |b - A x| / |b| as the recursion has it, [] (0 for b = 0). At every iteration x^T A x = x^T b.
    """
    # In units of b's largest number: squares of small gradients would leave the range of float32.
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), initial=0.0) for leaf in jax.tree.leaves(b)]))
    unit = jnp.where(largest == 0, 1.0, largest)
    b = jax.tree.map(lambda leaf: leaf / unit, b)
    norm = optax.tree.vdot(b, b)
    eps = jnp.finfo(norm.dtype).eps
    enough, nearly = norm * (8 * eps) ** 2, norm * (1000 * eps) ** 2

    def iterate(carry, _):
        x, r, p, rr, steepest, best = carry
        ap = product(p)
        curvature, length = optax.tree.vdot(p, ap), optax.tree.vdot(p, p)
        steepest = jnp.maximum(steepest, curvature / jnp.where(length == 0, 1.0, length))
        # Written so that NaN propagates and `train` can detect it.
        done = (rr <= enough) | (curvature <= 64 * eps * steepest * length)
        alpha = jnp.where(done, 0.0, rr / curvature)
        x = jax.tree.map(lambda x, p: x + alpha * p, x, p)
        r = jax.tree.map(lambda r, ap: r - alpha * ap, r, ap)
        following = optax.tree.vdot(r, r)
        beta = jnp.where(done, 0.0, following / rr)
        p = jax.tree.map(lambda r, p: jnp.where(done, p, r + beta * p), r, p)
        best = jax.tree.map(lambda new, old: jnp.where(following < best[0], new, old), (following, x), best)
        return (x, r, p, following, steepest, best), None

    zeros = jax.tree.map(jnp.zeros_like, b)
    start = (zeros, b, b, norm, jnp.zeros_like(norm), (norm, zeros))
    (x, _, _, rest, _, best), _ = jax.lax.scan(iterate, start, length=iterations)
    rest, x = jax.tree.map(lambda least, last: jnp.where(best[0] <= nearly, least, last), best, (rest, x))
    residual = jnp.sqrt(jnp.where(norm == 0, 0.0, rest / norm))
    return jax.tree.map(lambda leaf: unit * leaf, x), residual

"""Statistics of gradients of groups of episodes, and their moments, which merge over chunks."""

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.types import Array, PyTree


def statistics(estimates: Array, target: Array, ascent: Array) -> dict[str, Array]:
    """The statistics of G groups [G, K, P] that are averaged over groups, NaN where an estimator needs larger groups.

    Returns, each [G, ...]: `error`, |g - target|^2 [K]; `cosine` to the target [K]; `ascends`, whether
    a step along g raises J to first order [K]; `pairwise` cosines [K, K].
    """
    inner = jnp.einsum("gkp,glp->gkl", estimates, estimates, precision="highest")
    norm = jnp.sqrt(jnp.einsum("gkk->gk", inner))
    projection = jnp.einsum("gkp,kp->gk", estimates, target, precision="highest")
    upward = jnp.einsum("gkp,p->gk", estimates, ascent, precision="highest")

    def over(x, scale):
        # A gradient of zero points nowhere; NaN stays NaN.
        return jnp.where(scale == 0, 0.0, x / jnp.where(scale == 0, 1.0, scale))

    return {
        "error": jnp.sum((estimates - target[None]) ** 2, axis=-1),
        "cosine": over(projection, norm * jnp.linalg.norm(target, axis=-1)[None]),
        "ascends": jnp.where(jnp.isnan(upward), jnp.nan, (upward > 0).astype(upward.dtype)),
        "pairwise": over(inner, norm[:, :, None] * norm[:, None, :]),
    }


def moments(values: PyTree) -> PyTree:
    """Each [G, ...] as (count, mean, sum of squared deviations), centred before squaring."""

    def one(x):
        mean = jnp.mean(x, axis=0)
        return {"count": jnp.float32(x.shape[0]), "mean": mean, "m2": jnp.sum((x - mean[None]) ** 2, axis=0)}

    return jax.tree.map(one, values)


def merge(a: PyTree, b: PyTree) -> PyTree:
    """Moments of two disjoint samples as one (Chan, Golub & LeVeque 1983, eq. 2.1), in float64 on the host."""

    def is_moments(x):
        return isinstance(x, dict) and set(x) == {"count", "mean", "m2"}

    def one(a, b):
        a, b = ({k: np.asarray(v, np.float64) for k, v in x.items()} for x in (a, b))
        count = a["count"] + b["count"]
        delta = b["mean"] - a["mean"]
        return {
            "count": count,
            "mean": a["mean"] + delta * b["count"] / count,
            "m2": a["m2"] + b["m2"] + delta**2 * a["count"] * b["count"] / count,
        }

    return jax.tree.map(one, a, b, is_leaf=is_moments)


def standard_error(moments: dict[str, np.ndarray]) -> np.ndarray:
    """The standard error of the mean of independent values; NaN for fewer than two."""
    count = moments["count"]
    if count < 2:
        return np.full(np.shape(moments["m2"]), np.nan)
    return np.sqrt(moments["m2"] / (count - 1) / count)

"""The gradients of a batch's parts in, how noisy the gradient is out: the simple noise scale of McCandlish et al."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from pgjax.estimators.pieces import take
from pgjax.types import Array, Batch, PyTree

PARTS = 8


def gradient_noise(
    gradient: Callable[[Batch], PyTree], whole: PyTree, batch: Batch, size: Callable[[Batch], Array]
) -> dict[str, Array]:
    """`grad_square`, |G|^2 of the expected gradient G, and `grad_trace`, tr Sigma of one sample's covariance; each [].

    McCandlish et al. 2018, An empirical model of large-batch training, app. A.1, of K parts g_k of n_k samples of the
    gradient g of all N:

        tr Sigma = sum_k n_k |g_k - g|^2 / (K - 1),  |G|^2 = |g|^2 - tr Sigma / N,

    which for equal parts are the paper's estimates from the batch sizes N / K and N. Both are unbiased where samples
    are independent and g is their mean; |G|^2 may come out negative. Parts are neighbouring columns of a batch [T, B],
    or rows of one [N], `PARTS` of them or the next number that divides B or N; those without a step that counts are
    left out. NaN where there are not two.

    Args:
      gradient: a part of the batch -> its share of g.
      whole: g.
      size: a batch or a part of one -> how many samples it has.
    """
    count, total, square = batch.trajectory.mask.shape[-1], size(batch), optax.tree.norm(whole, squared=True)
    if count < 2:
        raise ValueError(
            "noise=True compares parts of each minibatch, and here one environment or row is all of it; use more "
            "environments or fewer minibatches"
        )
    parts = next(k for k in range(min(count, PARTS), count + 1) if count % k == 0)

    def add(sums, index):
        columns = batch.trajectory.mask.ndim == 2
        part = take(batch, index, by_column=True) if columns else jax.tree.map(lambda x: x[index], batch)
        samples, counts = size(part), jnp.any(part.trajectory.mask > 0)
        scale = total / jnp.maximum(samples, 1)
        away = jax.tree.map(lambda mine, all_of_it: scale * mine - all_of_it, gradient(part), whole)
        distance = samples * optax.tree.norm(away, squared=True)
        return (sums[0] + jnp.where(counts, distance, 0.0), sums[1] + counts), None

    start = jnp.zeros_like(square), jnp.int32(0)
    (distances, found), _ = jax.lax.scan(add, start, jnp.arange(count).reshape(parts, -1))
    trace = distances / jnp.where(found > 1, found - 1, jnp.nan)
    return {"grad_square": square - trace / total, "grad_trace": trace}


def noise_ratios(metrics: dict[str, Array]) -> dict[str, Array]:
    """`noise_scale`, tr Sigma / |G|^2, and `snr`, its inverse, where the metrics of an update have both means.

    The batch whose gradient has as much noise as signal is `noise_scale` samples large (McCandlish et al. 2018, eq.
    2.9); `snr` is that of one sample, as in the laboratory, and that of a batch as many times it as it has samples.
    """
    if "grad_trace" not in metrics:
        return {}
    square, trace = metrics["grad_square"], metrics["grad_trace"]
    return {"noise_scale": trace / square, "snr": square / trace}

"""One estimator's sums over chunks in; its bias, variance and what follows from them, with standard errors, out."""

import math
from typing import Any

import numpy as np
import scipy.stats

from pgjax.variance.grid import ScoreFunction, statement
from pgjax.variance.measure import Setup
from pgjax.variance.own import describe
from pgjax.variance.statistics import standard_error
from pgjax.variance.stream import Stream


def number(value: float, se: float) -> dict[str, Any]:
    return {"value": float(value), "se": float(se)}


def exactly(value: float) -> dict[str, Any]:
    return {"value": float(value), "exact": True}


def of_mean(noise: np.ndarray) -> float:
    """E |mean - truth|^2 from folds centred at their mean, [F, P]."""
    return float(np.sum(noise**2) / (len(noise) * (len(noise) - 1)))


def _pairs(gram: np.ndarray) -> float:
    """Mean over pairs of different folds: products of independent errors, so no variance adds to it."""
    n = len(gram)
    return float((gram.sum() - np.trace(gram)) / (n * (n - 1)))


def estimator(
    setup: Setup, stream: Stream, k: int, name: str, target: np.ndarray, noise: np.ndarray | None, on_policy: bool
) -> dict[str, Any]:
    """The row of a summary for estimator k, whose target [P] is known up to `noise`, folds [F, P] around it."""
    own = list(setup.estimators.values())[k]
    off = stream.folds[:, k] - target
    gram, along = off @ off.T, off @ target
    extra = 0.0 if noise is None else of_mean(noise)
    square = target @ target
    stated = isinstance(own, ScoreFunction) and statement(own)[0]
    known = stated and (on_policy or not statement(own)[1].startswith("on policy"))

    def derived(folds: np.ndarray) -> dict[str, float]:
        """Of some folds; signal is |E g|^2 without the variance of the mean."""
        bias = _pairs(gram[np.ix_(folds, folds)])
        trace = (stream.errors[folds, k].sum(axis=-1).mean() - bias) * own.batch
        signal = bias + 2 * along[folds].mean() + square
        wanted = square - extra
        straight = math.sqrt(signal * wanted) if min(signal, wanted) > 0 else math.nan
        return {
            "trace": trace,
            "snr": signal / trace if trace > 0 else math.inf,
            "noise_scale": trace / wanted if wanted > 0 else math.inf,
            "mean_cosine": (along[folds].mean() + square) / straight,
            "variance_per_step": trace * stream.lengths[folds].mean(),
            "bias2": bias - extra,
        }

    everything = np.arange(len(off))
    whole = derived(everything)
    left_out = [derived(np.delete(everything, f)) for f in everything]
    jackknife = {q: _jackknife([x[q] for x in left_out]) for q in whole}
    if noise is not None:
        # The reference's error comes on top of the sample's: each quantity moves with it along one direction.
        mean = off.mean(axis=0)
        slopes = {"bias2": 2 * mean, "noise_scale": 2 * target * whole["noise_scale"] / square}
        length = max(np.linalg.norm(mean + target), 1e-300)
        straight = (mean + target) / length - whole["mean_cosine"] * target / math.sqrt(square)
        slopes["mean_cosine"] = straight / math.sqrt(square)
        for q, slope in slopes.items():
            jackknife[q] = math.hypot(jackknife[q], _spread(noise, slope))
    whole["mean_cosine"] = min(1.0, whole["mean_cosine"])
    bias2 = whole.pop("bias2")
    bias, error = math.sqrt(max(bias2, 0.0)), jackknife.pop("bias2")
    bias_se = error / (2 * bias) if bias2 > error else math.sqrt(error)
    size = math.sqrt(max(square - extra, 1e-300))
    size_se = 0.0 if noise is None else _spread(noise, target / size)

    reference_error = {}
    if noise is not None:
        reference_error = {"mse": _spread(noise, slopes["bias2"]), "cosine": _spread(noise, slopes["mean_cosine"])}
    curves = {
        q: [_point(stream, level, q, k, extra, target, reference_error.get(q, 0.0)) for level in setup.levels]
        for q in ("mse", "cosine", "ascends")
    }
    limit = (1.0, 0.0) if known else (whole["mean_cosine"], jackknife["mean_cosine"])
    samples = {f"samples_{round(100 * c)}": _samples(c, setup.levels, curves["cosine"], *limit) for c in (0.9, 0.99)}
    found = stream.parameters[name]
    per_parameter = found["value"]["m2"] / (found["value"]["count"] - 1) * own.batch
    layers, spreads = _layers(per_parameter, setup.where.sizes), _layer_errors(stream, setup, off, k) * own.batch
    return {
        "kind": describe(own),
        "batch": own.batch,
        "bias": number(bias, bias_se),
        "relative_bias": number(bias / size, math.hypot(bias_se, bias * size_se / size) / size),
        "bias_z": _surprise(off, noise),
        "trace": number(per_parameter.sum(), jackknife["trace"]),
        **{q: number(whole[q], jackknife[q]) for q in whole if q != "trace"},
        "layers": {layer: number(v, se) for layer, v, se in zip(setup.where.names, layers, spreads, strict=True)},
        **samples,
        **curves,
    }


def _spread(noise: np.ndarray, slope: np.ndarray) -> float:
    """Standard error of slope @ the mean of folds [F, P]; 0 where the slope is unknown."""
    along = noise @ np.where(np.isfinite(slope), slope, 0.0)
    return float(along.std(ddof=1) / math.sqrt(len(along)))


def _samples(
    cosine: float, levels: tuple[int, ...], curve: list[dict[str, Any]], limit: float, spread: float
) -> dict[str, Any]:
    """Episodes whose mean has that cosine to the gradient, from the nearest point of the measured curve.

    1 / cosine^2 - 1 falls as 1 / n towards what the bias leaves, 1 / limit^2 - 1, with limit the cosine of the
    estimate's mean, known up to `spread`: infinite where that is out of reach, NaN where the sample can't tell.
    """

    def room(c):
        return 1 / c**2 - 1

    if limit + 2 * spread < cosine:
        return number(math.inf, math.nan)
    points = [(n, p["value"], p["se"]) for n, p in zip(levels, curve, strict=True) if 0 < p["value"] < 1]
    if not points or not limit > cosine:
        return number(math.nan, math.nan)
    left = room(cosine) - room(limit)
    n, c, se = min(points, key=lambda point: abs(math.log(room(point[1]) / room(cosine))))
    return number(n * max(room(c) - room(limit), 0.0) / left, n * 2 * se / c**3 / left)


def _jackknife(values: list[float]) -> float:
    values = np.asarray(values)
    if not np.isfinite(values).all():
        return math.nan
    return float(np.sqrt((len(values) - 1) * np.var(values)))


def _surprise(off: np.ndarray, noise: np.ndarray | None) -> float:
    """How many standard deviations of a normal the mean's distance from the target is worth, if it were unbiased.

    |mean - target|^2 over what is expected of it is then close to F distributed, with degrees of freedom that
    give the weighted sum of chi-squares its first two moments (Satterthwaite 1946).
    """
    mean, f = off.mean(axis=0), len(off)
    expected = np.sum((off - mean) ** 2) / (f * (f - 1))
    spread, folds = _trace_of_square(off) / f**2, f
    if noise is not None:
        r = len(noise)
        own, cross = np.sum(noise**2) / (r * (r - 1)), ((off - mean) @ noise.T) ** 2
        spread += _trace_of_square(noise) / r**2 + 2 * cross.mean() / (f * r)
        # As many folds as the larger share of the variance has.
        folds = f if expected > own else r
        expected += own
    if expected <= 0 or spread <= 0:
        return 0.0 if mean @ mean == 0 else math.inf
    degrees, ratio = expected**2 / spread, mean @ mean / expected
    p = scipy.stats.f.sf(ratio, degrees, degrees * (folds - 1))
    if p > 1e-290:
        return float(scipy.stats.norm.isf(p))
    # Beyond the range of p, by the leading terms of both tails.
    x = ratio * degrees
    return math.sqrt(max(2 * (x / 2 + math.lgamma(degrees / 2) - (degrees / 2 - 1) * math.log(x / 2)), 0.0))


def _trace_of_square(x: np.ndarray) -> float:
    """tr S^2 of the covariance S of folds [F, P], pairs centred at the mean of the rest (Chen & Qin 2010, eq. 3)."""
    f = len(x)
    x = x - x.mean(axis=0)  # a bias, however large, is no part of it
    gram = x @ x.T
    # (x_i - m)' x_j, where m = -(x_i + x_j) / (F - 2) is the mean of the rest.
    left = gram + (gram + np.diag(gram)[None]) / (f - 2)
    products = left * left.T
    return max(float((products.sum() - np.trace(products)) / (f * (f - 1))), 0.0)


def _layers(per_parameter: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Sums [..., L] over each layer's parameters [..., P]."""
    return np.stack([x.sum(axis=-1) for x in np.split(per_parameter, np.cumsum(sizes)[:-1], axis=-1)], axis=-1)


def _layer_errors(stream: Stream, setup: Setup, off: np.ndarray, k: int) -> np.ndarray:
    """Standard errors [L] of the layers' variances, by the jackknife over folds."""
    total, folds = off.sum(axis=0), len(off)
    left_out = []
    for f in range(folds):
        # Mean square around the target, less the squared bias: products of the other folds' errors.
        rest = np.arange(folds) != f
        n = folds - 1
        pairs = ((total - off[f]) ** 2 - np.sum(off[rest] ** 2, axis=0)) / (n * (n - 1))
        left_out.append(stream.errors[rest, k].mean(axis=0) - _layers(pairs, setup.where.sizes))
    return np.sqrt(n * np.var(left_out, axis=0))


def _point(
    stream: Stream, level: int, quantity: str, k: int, extra: float, target: np.ndarray, reference: float
) -> dict[str, Any]:
    """One point of a curve against batch size, NaN below the estimator's own batch; `reference`: its error's share."""
    found = stream.levels[level]["error" if quantity == "mse" else quantity]
    value, se = found["mean"][k], standard_error(found)[k]
    if quantity == "mse":
        value = value - extra  # the reference's own error adds to the distance from it
    if quantity == "cosine":
        # The reference is longer than the gradient by its own error; where that is most of it, nothing can be said.
        share = 1 - extra / max(target @ target, 1e-300)
        longer = math.sqrt(share) if share > 0.5 else math.nan
        value, se = value / longer, se / longer
        reference = reference * abs(value)  # a short mean's direction feels less of it
    return number(value, math.hypot(se, reference))

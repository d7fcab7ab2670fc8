"""One estimator's sums over chunks in; its bias, variance and what follows from them, with standard errors, out."""

import math
from typing import Any

import numpy as np
import scipy.stats

from pgjax.variance.estimators.custom import describe
from pgjax.variance.estimators.score_functions import ScoreFunction, statement
from pgjax.variance.findings import jackknife_folds, tails
from pgjax.variance.measurement.measure import Setup
from pgjax.variance.measurement.stream import Stream
from pgjax.variance.measurement.streaming_moments import standard_error

ROUNDING = 1e-12  # of the estimates' spread: a gradient in float64 that is no longer than this is 0


FLAT = 1e-6  # of the estimates' mean and target: a spread in float32 that is no larger than this is 0


NOTHING = {"value": math.nan, "se": math.nan}  # of a ratio whose denominator is 0 within its error


def number(value: float, se: float, interval: tuple[float, float] | None = None) -> dict[str, Any]:
    """`interval`: of 95 %, where value +- 2 se is none."""
    found = {"value": float(value), "se": float(se)}
    return found if interval is None else {**found, "interval": [float(x) for x in interval]}


def exactly(value: float) -> dict[str, Any]:
    return {"value": float(value), "exact": True}


def norm(target: np.ndarray, noise: np.ndarray | None, spread: float) -> dict[str, Any]:
    """The norm of a gradient [P] that is known up to `noise`, folds [F, P] around it; exact without.

    With `"zero": true` where it is 0 within its error: its square within 2 standard errors, or an exact one no larger
    than float64 leaves of estimates whose root-mean-square distance from it is `spread`.
    """
    if noise is None:
        size = math.sqrt(target @ target)
        return {**exactly(size), **({"zero": True} if size <= ROUNDING * spread else {})}
    gram = (target + noise) @ (target + noise).T
    square = jackknife_folds.pairs(gram)
    others = [np.delete(np.arange(len(gram)), f) for f in range(len(gram))]
    error = jackknife_folds.jackknife([jackknife_folds.pairs(gram[np.ix_(rest, rest)]) for rest in others])
    value, se = jackknife_folds.root(square, error)
    return {**number(value, se), **({"zero": True} if square <= 2 * error else {})}


def estimator(
    setup: Setup, stream: Stream, k: int, name: str, target: np.ndarray, noise: np.ndarray | None, on_policy: bool
) -> dict[str, Any]:
    """The row of a summary for estimator k, whose target [P] is known up to `noise`, folds [F, P] around it."""
    own = list(setup.estimators.values())[k]
    off = stream.folds[:, k] - target
    gram, along = off @ off.T, off @ target
    extra = 0.0 if noise is None else jackknife_folds.of_mean(noise)
    square = target @ target
    stated = isinstance(own, ScoreFunction) and statement(own)[0]
    known = stated and (on_policy or not statement(own)[1].startswith("on policy"))
    size = norm(target, noise, math.sqrt(stream.squares[name][0].mean(dtype=float)))
    found = stream.parameters[name]["value"]
    per_parameter = found["m2"] / (found["count"] - 1) * own.batch
    zero, length2 = "zero" in size, stream.mean[k] @ stream.mean[k]
    steady = per_parameter.sum() <= FLAT**2 * (length2 + square)

    def derived(some: np.ndarray) -> dict[str, float]:
        """Of some folds; signal is |E g|^2 without the variance of the mean."""
        bias = jackknife_folds.pairs(gram[np.ix_(some, some)])
        trace = (stream.errors[some, k].sum(axis=-1).mean() - bias) * own.batch
        signal = bias + 2 * along[some].mean() + square
        wanted = square - extra
        straight = math.sqrt(signal * wanted) if min(signal, wanted) > 0 else math.nan
        return {
            "trace": trace,
            "signal": signal,
            "snr": signal / trace if trace > 0 and not steady else math.inf if length2 > 0 else math.nan,
            "noise_scale": trace / wanted if wanted > 0 else math.nan,
            "mean_cosine": (along[some].mean() + square) / straight,
            "variance_per_step": trace * stream.lengths[some].mean(),
            "bias2": bias - extra,
        }

    everything = np.arange(len(off))
    whole = derived(everything)
    left_out = [derived(np.delete(everything, f)) for f in everything]
    jackknife = {q: jackknife_folds.jackknife([x[q] for x in left_out]) for q in whole}
    if noise is not None:
        # The reference's error comes on top of the sample's: each quantity moves with it along one direction.
        mean = off.mean(axis=0)
        slopes = {"bias2": 2 * mean, "noise_scale": 2 * target * whole["noise_scale"] / square}
        length = max(np.linalg.norm(mean + target), 1e-300)
        straight = (mean + target) / length - whole["mean_cosine"] * target / math.sqrt(square)
        slopes["mean_cosine"] = straight / math.sqrt(square)
        for q, slope in slopes.items():
            jackknife[q] = math.hypot(jackknife[q], jackknife_folds.spread(noise, slope))
    whole["mean_cosine"] = min(whole["mean_cosine"], 1.0)  # NaN stays
    bias2, signal, error = whole.pop("bias2"), whole.pop("signal"), jackknife.pop("bias2")
    pointless = zero or not signal > 2 * jackknife.pop("signal")
    for q in [*(["noise_scale"] if zero else []), *(["mean_cosine"] if pointless else [])]:
        whole[q] = jackknife[q] = math.nan
    bias, bias_se = jackknife_folds.root(bias2, error)
    relative = NOTHING
    if not zero:
        length, length_se = size["value"], size.get("se", 0.0)
        relative = number(bias / length, math.hypot(bias_se, bias * length_se / length) / length)

    reference_error = {}
    if noise is not None:
        reference_error = {
            q: jackknife_folds.spread(noise, slopes[s]) for q, s in (("mse", "bias2"), ("cosine", "mean_cosine"))
        }
    curves = {
        q: [_point(stream, level, q, k, extra, target, reference_error.get(q, 0.0)) for level in setup.levels]
        for q in ("mse", "cosine", "ascends")
    }
    if zero:
        curves |= {q: [NOTHING] * len(setup.levels) for q in ("cosine", "ascends")}
    limit = (1.0, 0.0) if known else (whole["mean_cosine"], jackknife["mean_cosine"])
    samples = {f"samples_{round(100 * c)}": _samples(c, setup.levels, curves["cosine"], *limit) for c in (0.9, 0.99)}
    layers, spreads = _layers(per_parameter, setup.where.sizes), _layer_errors(stream, setup, off, k) * own.batch
    trace = per_parameter.sum()
    ends = _interval(stream.squares[name], trace / own.batch, bias2, jackknife["trace"] / own.batch, len(off))
    ends = (ends[0] * own.batch, ends[1] * own.batch)
    intervals = {
        q: scaled(ends, trace, whole[q], jackknife[q], jackknife["trace"]) for q in ("noise_scale", "variance_per_step")
    }
    return {
        "kind": describe(own),
        "batch": own.batch,
        "bias": number(bias, bias_se),
        "relative_bias": relative,
        "bias_z": jackknife_folds.surprise(off, noise),
        "trace": number(trace, jackknife["trace"], ends),
        **{q: number(whole[q], jackknife[q], intervals.get(q)) for q in whole if q != "trace"},
        "layers": {layer: number(v, se) for layer, v, se in zip(setup.where.names, layers, spreads, strict=True)},
        **samples,
        **curves,
    }


def _interval(squares: np.ndarray, trace: float, bias2: float, se: float, count: int) -> tuple[float, float]:
    """Of 95 %, of the trace of the covariance of one estimate, from squared distances [2, N]: see `measure.squares`.

    Those from the target, unless a bias is in them that would make them look more spread than they are.
    """
    values = squares[0 if bias2 < 0.05 * trace else 1].astype(np.float64)
    low, high = (end - values.mean() + trace for end in tails.mean_interval(values))
    if math.isnan(low):
        aside = se * scipy.stats.t.ppf(0.975, count - 1)
        low, high = trace - aside, trace + aside
    return max(low, 0.0), high


def scaled(
    ends: tuple[float, float], trace: float, value: float, se: float, trace_se: float
) -> tuple[float, float] | None:
    """The interval of value = trace x factor, from the trace's and what the factor adds to the relative error."""
    if not (ends[0] > 0 and value > 0 and math.isfinite(value) and math.isfinite(se)):
        return None
    rest = 2 * math.sqrt(max((se / value) ** 2 - (trace_se / trace) ** 2, 0.0))
    down, up = (math.hypot(math.log(trace / end), rest) for end in ends)
    return value * math.exp(-down), value * math.exp(up)


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

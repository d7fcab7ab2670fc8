"""Computes an estimator's bias and variance, and the numbers that follow from them, with their standard errors."""

import math
from typing import Any, NamedTuple

import numpy as np

from pgjax.variance.estimators.custom import describe
from pgjax.variance.estimators.score_functions import ScoreFunction, statement, unbiased_off_policy
from pgjax.variance.findings import jackknife_folds, tails
from pgjax.variance.measurement.measure import Setup
from pgjax.variance.measurement.stream import Stream
from pgjax.variance.measurement.streaming_moments import standard_error

ROUNDING = 1e-12  # of the estimates' spread: a gradient in float64 that is no longer than this is 0
FLAT = 1e-6  # of the estimates' mean and target: a spread in float32 that is no larger than this is 0
NOTHING = {"value": math.nan, "se": math.nan}  # of a ratio whose denominator is 0 within its error


def number(value: Any, se: Any, interval: tuple[float, float] | None = None) -> dict[str, Any]:
    """A value, scalar, with its standard error; `interval`: of 95 %, where value +- 2 se is not one."""
    found = {"value": float(value), "se": float(se)}
    return found if interval is None else {**found, "interval": [float(x) for x in interval]}


def exactly(value: float) -> dict[str, Any]:
    """A number that is known without error, as the summary has it."""
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


class _Sample(NamedTuple):
    """The estimates of estimator k, and their target."""

    stream: Stream
    k: int
    batch: int
    target: np.ndarray  # [P]
    noise: np.ndarray | None  # [F, P] folds around the target; None where it is exact
    off: np.ndarray  # [F, P] the mean of each fold, less the target
    extra: float  # the variance of the target
    square: float  # |target|^2
    per_parameter: np.ndarray  # [P] variance of one episode's estimate

    @property
    def length2(self) -> float:
        """|mean of the estimates|^2"""
        mean = self.stream.mean[self.k]
        return mean @ mean

    @property
    def steady(self) -> bool:
        """Whether all estimates are equal up to rounding."""
        return bool(self.per_parameter.sum() <= FLAT**2 * (self.length2 + self.square))


def estimator(
    setup: Setup, stream: Stream, k: int, name: str, target: np.ndarray, noise: np.ndarray | None, on_policy: bool
) -> dict[str, Any]:
    """The row of a summary for estimator k, whose target [P] is known up to `noise`, folds [F, P] around it."""
    own = list(setup.estimators.values())[k]
    off, found = stream.folds[:, k] - target, stream.parameters[name]["value"]
    extra = 0.0 if noise is None else jackknife_folds.of_mean(noise)
    per_parameter = found["m2"] / (found["count"] - 1) * own.batch
    sample = _Sample(stream, k, own.batch, target, noise, off, extra, target @ target, per_parameter)
    size = norm(target, noise, math.sqrt(stream.squares[name][0].mean(dtype=float)))
    zero = "zero" in size
    whole, errors, shares = _quantities(sample, zero)
    bias, bias_se = jackknife_folds.root(whole["bias2"], errors["bias2"])
    relative = NOTHING
    if not zero:
        length, length_se = size["value"], size.get("se", 0.0)
        relative = number(bias / length, math.hypot(bias_se, bias * length_se / length) / length)
    curves = {
        q: [_point(sample, level, q, shares.get(q, 0.0)) for level in setup.levels]
        for q in ("mse", "cosine", "ascends")
    }
    if zero:
        curves |= {q: [NOTHING] * len(setup.levels) for q in ("cosine", "ascends")}
    known = isinstance(own, ScoreFunction) and _is_unbiased(own, on_policy)
    limit = (1.0, 0.0) if known else (whole["mean_cosine"], errors["mean_cosine"])
    samples = {f"samples_{round(100 * c)}": _samples(c, setup.levels, curves["cosine"], *limit) for c in (0.9, 0.99)}
    layers, spreads = _layers(per_parameter, setup.where.sizes), _layer_errors(stream, setup, off, k) * own.batch
    trace, trace_se = per_parameter.sum(), errors["trace"]
    ends = tails.variance_interval(
        stream.squares[name], trace / own.batch, whole["bias2"], trace_se / own.batch, len(off)
    )
    ends = (ends[0] * own.batch, ends[1] * own.batch)
    intervals = {
        q: tails.scaled(ends, trace, whole[q], errors[q], trace_se) for q in ("noise_scale", "variance_per_step")
    }
    ratios = ("snr", "noise_scale", "mean_cosine", "variance_per_step")
    return {
        "kind": describe(own),
        "batch": own.batch,
        "bias": number(bias, bias_se),
        "relative_bias": relative,
        "bias_z": jackknife_folds.surprise(off, noise),
        "trace": number(trace, trace_se, ends),
        **{q: number(whole[q], errors[q], intervals.get(q)) for q in ratios},
        "layers": {layer: number(v, se) for layer, v, se in zip(setup.where.names, layers, spreads, strict=True)},
        **samples,
        **curves,
    }


def _is_unbiased(row: ScoreFunction, on_policy: bool) -> bool:
    return statement(row)[0] if on_policy else unbiased_off_policy(row)


def _quantities(sample: _Sample, zero: bool) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Quantities by name, their standard errors, and the part of the curves' errors that is the reference's.

    Args:
      zero: whether the target is 0 within its error; nothing can then be divided by it, or point along it.
    """
    off, target, noise = sample.off, sample.target, sample.noise
    gram, along, everything = off @ off.T, off @ target, np.arange(len(off))
    whole = _derived(sample, gram, along, everything)
    left_out = [_derived(sample, gram, along, np.delete(everything, f)) for f in everything]
    errors, shares = {q: jackknife_folds.jackknife([x[q] for x in left_out]) for q in whole}, {}
    if noise is not None:
        # The reference's error comes on top of the sample's: each quantity moves with it along one direction.
        mean, root = off.mean(axis=0), math.sqrt(sample.square)
        slopes = {"bias2": 2 * mean, "noise_scale": 2 * target * whole["noise_scale"] / sample.square}
        length = max(np.linalg.norm(mean + target), 1e-300)
        straight = (mean + target) / length - whole["mean_cosine"] * target / root
        slopes["mean_cosine"] = straight / root
        moves = {q: jackknife_folds.spread(noise, slope) for q, slope in slopes.items()}
        errors |= {q: math.hypot(errors[q], move) for q, move in moves.items()}
        shares = {"mse": moves["bias2"], "cosine": moves["mean_cosine"]}
    whole["mean_cosine"] = min(whole["mean_cosine"], 1.0)  # NaN stays
    pointless = zero or not whole["signal"] > 2 * errors["signal"]
    for q in [*(["noise_scale"] if zero else []), *(["mean_cosine"] if pointless else [])]:
        whole[q] = errors[q] = math.nan
    return whole, errors, shares


def _derived(sample: _Sample, gram: np.ndarray, along: np.ndarray, some: np.ndarray) -> dict[str, float]:
    """The quantities of some folds; signal is |E g|^2 without the variance of the mean.

    Args:
      gram: [F, F] inner products of the folds' distances from the target; along: [F] of these with the target.
    """
    stream, square = sample.stream, sample.square
    bias = jackknife_folds.pairs(gram[np.ix_(some, some)])
    trace = (stream.errors[some, sample.k].sum(axis=-1).mean() - bias) * sample.batch
    signal = bias + 2 * along[some].mean() + square
    wanted = square - sample.extra
    straight = math.sqrt(signal * wanted) if min(signal, wanted) > 0 else math.nan
    unknown = math.inf if sample.length2 > 0 else math.nan
    return {
        "trace": trace,
        "signal": signal,
        "snr": signal / trace if trace > 0 and not sample.steady else unknown,
        "noise_scale": trace / wanted if wanted > 0 else math.nan,
        "mean_cosine": (along[some].mean() + square) / straight,
        "variance_per_step": trace * stream.lengths[some].mean(),
        "bias2": bias - sample.extra,
    }


def _samples(
    cosine: float, levels: tuple[int, ...], curve: list[dict[str, Any]], limit: float, spread: float
) -> dict[str, Any]:
    """Episodes whose mean has that cosine to the gradient, from the nearest point of the measured curve.

    1 / cosine^2 - 1 falls as 1 / n towards what the bias leaves, 1 / limit^2 - 1, with limit the cosine of the
    estimate's mean, known up to `spread`: infinite where no number of episodes reaches the cosine, NaN where the
    sample is too small to decide.
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


def _point(sample: _Sample, level: int, quantity: str, reference: float) -> dict[str, Any]:
    """One point of a curve against batch size, NaN below the estimator's own batch; `reference`: its error's share."""
    found = sample.stream.levels[level]["error" if quantity == "mse" else quantity]
    value, se = found["mean"][sample.k], standard_error(found)[sample.k]
    if quantity == "mse":
        value = value - sample.extra  # the reference's own error adds to the distance from it
    if quantity == "cosine":
        # The reference is longer than the gradient by its own error; where that is most of it, the cosine is NaN.
        share = 1 - sample.extra / max(sample.square, 1e-300)
        longer = math.sqrt(share) if share > 0.5 else math.nan
        value, se = value / longer, se / longer
        reference = reference * abs(value)  # a short mean's direction feels less of it
    return number(value, math.hypot(se, reference))

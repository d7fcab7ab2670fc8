"""Builds the Report of a comparison: numbers with their standard errors, and an xarray Dataset."""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from pgjax.advantages.baselines import Fitted
from pgjax.dependencies import importing
from pgjax.oracle.enumeration import Projected
from pgjax.variance.estimators.custom import Estimator
from pgjax.variance.estimators.score_functions import ScoreFunction, statement
from pgjax.variance.findings import bias_and_variance, doubts, tails
from pgjax.variance.measurement.measure import Setup
from pgjax.variance.measurement.stream import Stream
from pgjax.variance.measurement.streaming_moments import standard_error


@dataclasses.dataclass
class Report:
    """The result of a comparison.

    Attributes:
      summary: plain numbers. Each is {"value", "se"} or {"value", "exact": true}, and where the distribution is skewed
        {"value", "se", "interval"}, of 95 %; NaN is a ratio whose denominator is 0 within its error. For every
        estimator `bias` (norm), `relative_bias`, `bias_z`, `trace` of the covariance of one episode's estimate, `snr`,
        `noise_scale`, `mean_cosine` (of the expected estimate to its target), `samples_90`, `samples_99`,
        `variance_per_step`, `variance_per_second`, `layers`, `decomposition`, and by batch size `mse`, `cosine`,
        `ascends`; `pareto_k` of the estimates' tail, `untrusted`, the names of the row's numbers whose error the
        sample is too small to know, and `doubt`, the reason. Off policy also `weights`: mean and tail of the
        importance weights.
      data: the same and the rest as an xarray Dataset, with dimensions estimator, other, batch, layer and
        parameter: mean and variance of each parameter, pairwise cosines.
      fitted: name -> the baselines that the pilot gave a row of the grid.
    """

    summary: dict[str, Any]
    data: Any
    fitted: dict[str, Fitted]


class Measured(NamedTuple):
    """All that a comparison found, from which a Report is built."""

    setup: Setup
    stream: Stream
    target: np.ndarray  # [K, P] the mean of each estimator if it is unbiased
    truth: np.ndarray  # [P] the gradient of J
    reference: Stream | None  # the sample that truth is the mean of; None where truth is exact
    moved: dict[str, np.ndarray]  # name -> [P, P] by which the estimator's gradients were multiplied
    parts: dict[str, dict[str, tuple[float, float]]]  # name -> term of the decomposition -> (value, standard error)
    times: dict[str, tuple[float, float]]  # name -> seconds of one episode and its gradient, their standard error
    exact: dict[str, Projected]  # name -> moments of one estimate
    facts: dict[str, Any]  # of the summary
    fitted: dict[str, Fitted]


def build(found: Measured) -> Report:
    """The Report of a comparison."""
    stream, reference, on_policy = found.stream, found.reference, found.facts["on_policy"]
    noise = None if reference is None else reference.folds[:, 0] - found.truth
    weighed = None if on_policy else doubts.weights(stream.ratios)
    reference_k = math.nan if reference is None else tails.pareto_k(np.sqrt(reference.squares["reference"][1]))
    estimators = {}
    for k, (name, own) in enumerate(found.setup.estimators.items()):
        row = _row(found, k, name, own, noise)
        estimators[name] = row | doubts.of(name, own, stream, weighed, reference_k)
    widest = math.sqrt(max(stream.squares[name][0].mean(dtype=float) for name in found.setup.estimators))
    summary = {
        **found.facts,
        "episodes": stream.episodes,
        "env_steps": stream.episodes * float(stream.metrics["length"]["mean"]),
        "parameters": int(found.truth.size),
        "return": _metric(stream, "return"),
        "discounted_return": _metric(stream, "discounted_return"),
        "length": _metric(stream, "length"),
        "gradient_norm": bias_and_variance.norm(found.truth, noise, widest),
        "reference_episodes": "exact" if reference is None else reference.episodes,
        "estimators": estimators,
    }
    if weighed is not None:
        share = _effective_sample_share(stream)
        summary |= {"effective_sample_share": share, "kl": _metric(stream, "kl"), "weights": weighed}
    return Report(summary, _dataset(found, estimators), found.fitted)


def _row(found: Measured, k: int, name: str, own: Estimator, noise: np.ndarray | None) -> dict[str, Any]:
    """The row of a summary for estimator k, without the doubts that its tails raise."""
    target = found.target[k]
    off = noise if noise is None or name not in found.moved else noise @ found.moved[name]
    row = bias_and_variance.estimator(found.setup, found.stream, k, name, target, off, found.facts["on_policy"])
    if isinstance(own, ScoreFunction):
        row["unbiased"], row["why"] = statement(own)
    if name in found.exact:
        row["exact_bias"] = bias_and_variance.exactly(float(np.linalg.norm(found.exact[name].mean - target)))
        row["exact_trace"] = bias_and_variance.exactly(float(found.exact[name].trace) * own.batch)
    if name in found.parts:
        row["decomposition"] = {term: bias_and_variance.number(*pair) for term, pair in found.parts[name].items()}
    if name in found.times:
        seconds, error = found.times[name]
        trace, spread = row["trace"]["value"], row["trace"]["se"]
        row["seconds_per_episode"] = bias_and_variance.number(seconds, error)
        product, error = trace * seconds, math.hypot(spread * seconds, trace * error)
        interval = tails.scaled(row["trace"]["interval"], trace, product, error, spread)
        row["variance_per_second"] = bias_and_variance.number(product, error, interval)
    if f"clip_fraction {name}" in found.stream.metrics:
        row["clip_fraction"] = _metric(found.stream, f"clip_fraction {name}")
    return row


def _effective_sample_share(stream: Stream) -> dict[str, Any]:
    """(E w)^2 / E w^2, the share of the episodes that the weighted ones are worth."""
    ratio, square = (stream.metrics[name] for name in ("ratio", "ratio_square"))
    share = ratio["mean"] ** 2 / square["mean"]
    errors = standard_error(ratio), standard_error(square)
    third = stream.metrics["ratio_cube"]["mean"] - ratio["mean"] * square["mean"]
    relative2 = (2 * errors[0] / ratio["mean"]) ** 2 + (errors[1] / square["mean"]) ** 2
    relative2 -= 4 * third / ratio["count"] / (ratio["mean"] * square["mean"])
    return bias_and_variance.number(share, share * math.sqrt(max(relative2, 0.0)))


def _metric(stream: Stream, name: str) -> dict[str, Any]:
    return bias_and_variance.number(stream.metrics[name]["mean"], standard_error(stream.metrics[name]))


def _dataset(found: Measured, estimators: dict[str, Any]) -> Any:
    """The xarray Dataset of a Report, from the rows of its summary."""
    with importing("xarray"):
        import xarray

    setup, stream = found.setup, found.stream
    names, levels, own = list(setup.estimators), list(setup.levels), list(setup.estimators.values())
    batch = np.array([e.batch for e in own], float)[:, None]
    values = [stream.parameters[name] for name in names]
    count = np.array([v["value"]["count"] for v in values])[:, None]
    variance = np.stack([v["value"]["m2"] for v in values]) / (count - 1)
    fourth = np.stack([v["fourth"]["mean"] for v in values])
    spread = np.sqrt(np.maximum(fourth - variance**2, 0) / count)
    pairwise = [stream.levels[level]["pairwise"] for level in levels]
    layer = np.repeat(setup.where.names, setup.where.sizes)
    data = {
        "truth": ("parameter", found.truth),
        "target": (("estimator", "parameter"), found.target),
        "mean": (("estimator", "parameter"), stream.mean),
        "variance": (("estimator", "parameter"), variance * batch),
        "variance_se": (("estimator", "parameter"), spread * batch),
        "pairwise_cosine": (("estimator", "other", "batch"), np.stack([p["mean"] for p in pairwise], axis=-1)),
        "pairwise_cosine_se": (
            ("estimator", "other", "batch"),
            np.stack([standard_error(p) for p in pairwise], axis=-1),
        ),
    }
    for key in ("value", "se"):
        end = "" if key == "value" else "_se"
        for curve in ("mse", "cosine", "ascends"):
            points = [[p[key] for p in estimators[name][curve]] for name in names]
            data[f"{curve}{end}"] = (("estimator", "batch"), np.array(points))
        for scalar in (
            "bias",
            "relative_bias",
            "trace",
            "snr",
            "noise_scale",
            "mean_cosine",
            "samples_90",
            "samples_99",
            "variance_per_step",
        ):
            data[f"{scalar}{end}"] = ("estimator", np.array([estimators[name][scalar][key] for name in names]))
        by_layer = [[p[key] for p in estimators[name]["layers"].values()] for name in names]
        data[f"layer_variance{end}"] = (("estimator", "layer"), np.array(by_layer))
    ends = [estimators[name]["trace"]["interval"] for name in names]
    data["trace_low"], data["trace_high"] = (("estimator", np.array(x)) for x in zip(*ends, strict=True))
    data["pareto_k"] = ("estimator", np.array([estimators[name]["pareto_k"] for name in names]))
    data["bias_z"] = ("estimator", np.array([estimators[name]["bias_z"] for name in names]))
    text = lambda x: np.array(x, object)  # noqa: E731  (a fixed-width text type is no stable part of zarr)
    coords = {
        "estimator": text(names),
        "other": text(names),
        "batch": levels,
        "layer": text(list(setup.where.names)),
        "layer_of": ("parameter", text(list(layer))),
    }
    return xarray.Dataset(data, coords)

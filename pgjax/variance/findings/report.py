"""What the chunks of a measurement came to in; numbers with their standard errors, a dataset and a table out."""

import dataclasses
import math
from typing import Any

import numpy as np

from pgjax.advantages.baselines import Fitted
from pgjax.dependencies import importing
from pgjax.variance.estimators.score_functions import ScoreFunction, statement
from pgjax.variance.findings import bias_and_variance, doubts, tails
from pgjax.variance.measurement.measure import Setup
from pgjax.variance.measurement.stream import Stream
from pgjax.variance.measurement.streaming_moments import standard_error


@dataclasses.dataclass
class Report:
    """What a comparison found.

    Attributes:
      summary: plain numbers. Each is {"value", "se"} or {"value", "exact": true}, and where the distribution is skewed
        {"value", "se", "interval"}, of 95 %; NaN is a ratio whose denominator is 0 within its error. For every
        estimator `bias` (norm), `relative_bias`, `bias_z`, `trace` of the covariance of one episode's estimate, `snr`,
        `noise_scale`, `mean_cosine` (of the expected estimate to its target), `samples_90`, `samples_99`,
        `variance_per_step`, `variance_per_second`, `layers`, `decomposition`, and by batch size `mse`, `cosine`,
        `ascends`; `pareto_k` of the estimates' tail, `untrusted`, the names of those numbers of the row of which the
        sample can't say how far off they are, and `doubt`, why. Off policy also `weights`: mean and tail of the
        importance weights.
      data: the same and the rest as an xarray Dataset, with dimensions estimator, other, batch, layer and
        parameter: mean and variance of each parameter, pairwise cosines.
      fitted: name -> the baselines that the pilot gave a row of the grid.
    """

    summary: dict[str, Any]
    data: Any
    fitted: dict[str, Fitted]


def build(
    setup: Setup,
    stream: Stream,
    target: np.ndarray,
    truth: np.ndarray,
    reference: Stream | None,
    moved: dict[str, np.ndarray],
    parts: dict[str, Any],
    times: dict[str, tuple[float, float]],
    exact: dict[str, Any],
    facts: dict[str, Any],
    fitted: dict[str, Fitted],
) -> Report:
    """A Report.

    Args:
      target: [K, P] what each estimates if unbiased; truth: [P] the gradient of J.
      reference: the sample that truth is the mean of; None where it is exact.
      moved: name -> [P, P] by which the estimator's gradients were multiplied.
      parts: name -> the decomposition's terms, (value, standard error) each.
      times: name -> seconds of one episode and its gradient, and their standard error.
      exact: name -> enumeration.Projected of one estimate.
    """
    noise = None if reference is None else reference.folds[:, 0] - truth
    estimators = {}
    weighed = None if facts["on_policy"] else doubts.weights(stream.ratios)
    reference_k = math.nan if reference is None else tails.pareto_k(np.sqrt(reference.squares["reference"][1]))
    for k, (name, own) in enumerate(setup.estimators.items()):
        off = noise if noise is None or name not in moved else noise @ moved[name]
        row = bias_and_variance.estimator(setup, stream, k, name, target[k], off, facts["on_policy"])
        if isinstance(own, ScoreFunction):
            row["unbiased"], row["why"] = statement(own)
        if name in exact:
            row["exact_bias"] = bias_and_variance.exactly(np.linalg.norm(exact[name].mean - target[k]))
            row["exact_trace"] = bias_and_variance.exactly(exact[name].trace * own.batch)
        if name in parts:
            row["decomposition"] = {term: bias_and_variance.number(*pair) for term, pair in parts[name].items()}
        if name in times:
            seconds, error = times[name]
            trace, spread = row["trace"]["value"], row["trace"]["se"]
            row["seconds_per_episode"] = bias_and_variance.number(seconds, error)
            product, error = trace * seconds, math.hypot(spread * seconds, trace * error)
            interval = bias_and_variance.scaled(row["trace"]["interval"], trace, product, error, spread)
            row["variance_per_second"] = bias_and_variance.number(product, error, interval)
        if f"clip_fraction {name}" in stream.metrics:
            row["clip_fraction"] = _metric(stream, f"clip_fraction {name}")
        estimators[name] = row | doubts.of(name, own, stream, weighed, reference_k)
    widest = math.sqrt(max(stream.squares[name][0].mean(dtype=float) for name in setup.estimators))
    summary = {
        **facts,
        "episodes": stream.episodes,
        "env_steps": stream.episodes * float(stream.metrics["length"]["mean"]),
        "parameters": int(truth.size),
        "return": _metric(stream, "return"),
        "discounted_return": _metric(stream, "discounted_return"),
        "length": _metric(stream, "length"),
        "gradient_norm": bias_and_variance.norm(truth, noise, widest),
        "reference_episodes": "exact" if reference is None else reference.episodes,
        "estimators": estimators,
    }
    if not facts["on_policy"]:
        ratio, square = (stream.metrics[name] for name in ("ratio", "ratio_square"))
        # (E w)^2 / E w^2, the share of the episodes that the weighted ones are worth.
        share = ratio["mean"] ** 2 / square["mean"]
        errors = standard_error(ratio), standard_error(square)
        third = stream.metrics["ratio_cube"]["mean"] - ratio["mean"] * square["mean"]
        relative2 = (2 * errors[0] / ratio["mean"]) ** 2 + (errors[1] / square["mean"]) ** 2
        relative2 -= 4 * third / ratio["count"] / (ratio["mean"] * square["mean"])
        relative = math.sqrt(max(relative2, 0.0))
        share = bias_and_variance.number(share, share * relative)
        summary |= {"effective_sample_share": share, "kl": _metric(stream, "kl"), "weights": weighed}
    return Report(summary, _dataset(setup, stream, target, truth, estimators), fitted)


def _metric(stream: Stream, name: str) -> dict[str, Any]:
    return bias_and_variance.number(stream.metrics[name]["mean"], standard_error(stream.metrics[name]))


def _dataset(setup, stream, target, truth, estimators) -> Any:
    with importing("xarray"):
        import xarray

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
        "truth": ("parameter", truth),
        "target": (("estimator", "parameter"), target),
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

"""Decides from the tails of a measurement which of its numbers can't be trusted, and gives the reason.

The standard error of a mean over episodes is right if its terms have a finite variance, and the sample holds enough of
the large ones. Importance weights break this: most episodes have a weight near 0, and the few with a large one may not
have been drawn. The shape k of a generalised Pareto tail shows it (see `tails`).
"""

import math
from typing import Any

import numpy as np

from pgjax.variance.estimators.custom import Estimator, Sampler
from pgjax.variance.estimators.score_functions import ScoreFunction
from pgjax.variance.findings import tails
from pgjax.variance.measurement.stream import Stream

# MEAN names the numbers that depend on the mean of the estimates and on its error, SPREAD those of the second moments.
# The cosine of a batch and the share of steps that ascend are means of bounded numbers, and are always trusted.
MEAN = ("bias", "relative_bias", "bias_z", "mean_cosine", "samples_90", "samples_99")


SPREAD = ("trace", "layers", "snr", "noise_scale", "variance_per_step", "variance_per_second", "mse")


FINITE = 0.5  # the k from which on the variance is infinite


FAR = 3.0  # standard errors of a mean that is known


def weights(ratios: np.ndarray) -> dict[str, Any]:
    """Statistics of the importance weights [N] of whole episodes, whose expectation is 1.

    Returns:
      `mean` with its standard error, `pareto_k`, `limit` of k for N weights, and `doubt`, a sentence, or "".
    """
    ratios = np.asarray(ratios, np.float64)
    count = len(ratios)
    mean, error = float(np.mean(ratios)), float(np.std(ratios, ddof=1) / math.sqrt(count))
    k, limit = tails.pareto_k(ratios), tails.limit(count)
    doubt = ""
    if k >= limit:
        doubt = f"the importance weights have a Pareto k of {k:.2f} ({limit:.2f} or more can't be trusted)"
    # Equal weights are 1 up to rounding.
    elif abs(mean - 1) > FAR * error + 1e-4:
        doubt = (
            f"the mean importance weight is {mean:.2g} ± {error:.1g} and should be 1: what weighs most was not drawn"
        )
    return {"mean": {"value": mean, "se": error}, "pareto_k": k, "limit": limit, "doubt": doubt}


def of(name: str, own: Estimator, stream: Stream, weighed: dict[str, Any] | None, reference: float) -> dict[str, Any]:
    """The part of an estimator's row of a summary that names the numbers of the row that can't be trusted.

    Args:
      weighed: what `weights` found, off policy; None on policy.
      reference: the `pareto_k` of the reference's estimates; NaN where the gradient is exact.
    Returns:
      `pareto_k` of the estimates' distance from the target; `untrusted`, names of numbers of the row; `doubt`, why,
      or "".
    """
    size = np.sqrt(stream.squares[name][0].astype(np.float64))
    k, limit = tails.pareto_k(size), tails.limit(len(size))
    mean, spread = [], []
    if k >= limit:
        mean.append(f"the estimates have a Pareto k of {k:.2f} ({limit:.2f} or more can't be trusted)")
    elif k >= FINITE:
        spread.append(f"the estimates have a Pareto k of {k:.2f} (.5 or more: no finite variance is seen)")
    if reference >= tails.limit(len(size)):
        mean.append(f"the reference's estimates have a Pareto k of {reference:.2f}")
    if weighed is not None and _uses_weights(own):
        if weighed["doubt"]:
            mean.append(weighed["doubt"])
        elif weighed["pareto_k"] >= FINITE:
            spread.append(f"the importance weights have a Pareto k of {weighed['pareto_k']:.2f}")
    numbers = [*(MEAN if mean else ()), *(SPREAD if mean or spread else ())]
    return {"pareto_k": k, "untrusted": numbers, "doubt": "; ".join(mean or spread)}


def _uses_weights(own: Estimator) -> bool:
    """Whether the estimator contains the weights of whole episodes; plugs may."""
    if isinstance(own, ScoreFunction):
        return own.surrogate in ("is_trajectory", "is_decision")
    return not isinstance(own, Sampler)


def sentences(summary: dict[str, Any]) -> list[str]:
    """One line for each doubt, for people: whose numbers, which, and why."""
    groups: dict[tuple[str, bool], list[str]] = {}
    for name, row in summary["estimators"].items():
        if row["doubt"]:
            groups.setdefault((row["doubt"], "bias_z" in row["untrusted"]), []).append(name)
    what = {True: "bias, its z and error, variance, SNR and episodes needed", False: "variance and SNR"}
    lines = [f"? {', '.join(names)}: {what[whole]} can't be trusted: {why}" for (why, whole), names in groups.items()]
    if summary["gradient_norm"].get("zero"):
        lines.append(
            "? the gradient is 0 within its error: numbers that divide by it or need its direction are left out"
        )
    return lines

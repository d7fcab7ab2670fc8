"""The numbers of a report that a figure shows: values, bars, and whether a value is an upper limit only."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pgjax.analysis.drawing import NothingToDrawError
from pgjax.variance.findings.report import Report


def numbers(found: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Values and standard errors, 0 where exact, NaN where there is no number."""
    return np.array([x["value"] for x in found], float), np.array([x.get("se", 0.0) for x in found], float)


def of(report: Report, names: Sequence[str], quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """[K] or, of curves, [K, batch]; NaN for an estimator that the report lacks."""
    rows, none = report.summary["estimators"], {"value": math.nan}
    if quantity in ("mse", "cosine"):
        blank = [none] * len(report.summary["batch"])
        both = [numbers(rows[n][quantity] if n in rows else blank) for n in names]
        return np.stack([b[0] for b in both]), np.stack([b[1] for b in both])
    return numbers([rows[n][quantity] if n in rows else none for n in names])


def every(reports: Sequence[Report]) -> list[str]:
    """Names of the estimators in any of the reports, in order; NothingToDrawError where there are none."""
    names = list(dict.fromkeys(name for r in reports for name in r.summary["estimators"]))
    if not names:
        raise NothingToDrawError("the report has no estimators")
    return names


def bias(report: Report, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """bias^2 and its standard error, from those of the norm: `bias_and_variance.estimator` inverted."""
    bias, error = of(report, names, "bias")
    return bias**2, np.where(error >= bias, error**2, 2 * bias * error)


def clean(value: np.ndarray, error: np.ndarray, root: bool = False, positive: bool = False) -> tuple[np.ndarray, ...]:
    """For a logarithmic axis: y, down and up to the ends of its bar, and whether y is but an upper limit.

    A number that is positive by definition (a variance) has a bar by the error of its logarithm, and is no limit.
    """
    value = np.where(np.isfinite(value) & ((value > 0) | (not positive)), value, np.nan)
    error = np.where(np.isfinite(error), error, 0.0)
    low, high = value - 2 * error, value + 2 * error
    if positive:
        ratio = np.exp(np.minimum(2 * error / value, 3.0))
        low, high = value / ratio, value * ratio
    limit = (low <= 0) & (high > 0)
    ends = [np.where(x > 0, x, np.nan) for x in (np.where(limit, high, value), np.where(limit, high / 2, low), high)]
    y, low, high = (np.sqrt(x) for x in ends) if root else ends
    return y, y - low, high - y, limit


def spreads(report: Report, names: Sequence[str], scale: float = 1.0, root: bool = False) -> tuple[np.ndarray, ...]:
    """As `clean`, the traces of the estimators times `scale`; where one has an interval, it is the bar."""
    value, error = of(report, names, "trace")
    y, down, up, limit = clean(scale * value, scale * error, root=root, positive=True)
    rows = report.summary["estimators"]
    found = [rows[n]["trace"].get("interval", (math.nan,) * 2) if n in rows else (math.nan,) * 2 for n in names]
    ends = scale * np.array(found, float).reshape(-1, 2)
    low, high = np.where(ends > 0, ends, np.nan).T
    low, high = (np.sqrt(x) if root else x for x in (low, high))
    fits = np.isfinite(low) & np.isfinite(high) & (low <= y) & (y <= high)
    return y, np.where(fits, y - low, down), np.where(fits, high - y, up), limit


def norms(x: np.ndarray) -> np.ndarray:
    """The Euclidean norm over the last axis."""
    return np.sqrt((x**2).sum(axis=-1))


def either(values: set[Any]) -> str:
    """The values in order, joined by 'or'."""
    return " or ".join(map(str, sorted(values, key=str)))

"""Figures of comparisons, for a paper, as PNG.

Error bars are two standard errors either way, of variances intervals of 95 %. What the title says of long tails is
about the named estimators' numbers, whose bars can't be trusted (see `doubts`). On a logarithmic axis, an open marker
with an arrow is a number that two standard errors don't tell from 0: it stands at the upper end of its bar.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from pgjax.analysis.axis_limits import SMALLEST, limits
from pgjax.analysis.drawing import NothingToDrawError, text
from pgjax.dependencies import importing
from pgjax.variance.findings import drawing, plotted
from pgjax.variance.findings.report import Report

TERMS = {"trajectory": "#4477aa", "action": "#ee6677", "state": "#ccbb44"}


def bias_against_variance(report: Report, path: Any, title: str = "", n: int = 64) -> None:
    """Bias against the standard deviation of one episode's estimate, and curves of equal error of the mean of n.

    A cross is the exact value, where it is known and on the axes.
    """
    names, rows = plotted.every([report]), report.summary["estimators"]
    what = f"Bias and variance; curves: root-mean-square error of the mean of {n} episodes"
    figure, (axes,) = drawing.titled(what, [report], title, names)
    x, y = plotted.spreads(report, names, root=True), plotted.clean(*plotted.bias(report, names), root=True)
    drawing.points(axes, x, y, names)
    exact = [(row["exact_trace"]["value"], row["exact_bias"]["value"]) for row in rows.values() if "exact_bias" in row]
    low = axes.get_ylim()[0]
    shown = [(math.sqrt(t), b) for t, b in exact if 0 < t < math.inf and low < b < math.inf]
    if shown:
        drawing.frame(axes, x, y, *shown)
        axes.plot(*zip(*shown, strict=True), "kx", ms=4, mew=0.8, zorder=5, label="exact")
    drawing.contours(axes, lambda x, y: np.sqrt(y**2 + x**2 / n))
    axes.set_xlabel("standard deviation of one episode's estimate (root of the trace)")
    axes.set_ylabel("norm of the bias")
    drawing.finish(figure, path)


def cosine_against_batch(report: Report, path: Any, title: str = "") -> None:
    """The mean cosine of the estimate to the true gradient, on an axis that is linear in the angle."""
    names, x = plotted.every([report]), np.array(report.summary["batch"], float)
    figure, (axes,) = drawing.titled("Cosine of the estimate to the true gradient", [report], title, names)
    drawing.cosines(axes, x, *plotted.of(report, names, "cosine"), names, ranked=True)
    drawing.batch_axis(axes, x)
    drawing.finish(figure, path)


def error_against_batch(report: Report, path: Any, title: str = "") -> None:
    """Root-mean-square error over the norm of the gradient; a natural gradient's is over its own norm."""
    names, x = plotted.every([report]), np.array(report.summary["batch"], float)
    target, truth = (np.asarray(report.data[v].values, float) for v in ("target", "truth"))
    norm = np.where(
        (target == truth).all(axis=-1), plotted.numbers([report.summary["gradient_norm"]])[0], plotted.norms(target)
    )
    if "zero" in report.summary["gradient_norm"] or not (norm > 0).all():
        raise NothingToDrawError("error_against_batch divides by the norm of the gradient, which was measured as 0")
    values, errors = (a / norm[:, None] ** 2 for a in plotted.of(report, names, "mse"))
    points = plotted.clean(values, errors, root=True)
    figure, (axes,) = drawing.titled("Error of the mean of a batch, relative to the gradient", [report], title, names)
    drawing.curves(axes, x, points, names, ranked=True)
    drawing.log(axes, "y")
    axes.plot(x, 0.7 * np.nanmin(points[0] * np.sqrt(x)) / np.sqrt(x), "--", color="0.5", label="slope −1/2")
    axes.set_ylabel("root-mean-square error / norm of the gradient")
    drawing.batch_axis(axes, x)
    drawing.finish(figure, path)


def lambda_sweep(report: Report, rows: dict[str, Any], path: Any, title: str = "", n: int = 64) -> None:
    """Squared bias, variance and their sum, of the mean of n episodes, against lambda.

    Args:
      rows: name -> ScoreFunction. Three or more that differ in lambda_ alone make a panel.
    """
    families: dict[Any, dict[float, str]] = {}
    for name, row in rows.items():
        if name in report.summary["estimators"] and getattr(row, "returns", "") in ("gae", "lambda"):
            families.setdefault(dataclasses.replace(row, lambda_=0.0), {})[row.lambda_] = name
    families = {row: dict(sorted(found.items())) for row, found in families.items() if len(found) >= 3}
    if not families:
        raise NothingToDrawError(
            "lambda_sweep needs 3 rows with returns 'gae' or 'lambda' that differ in lambda_ alone"
        )
    what = f"Squared error of the mean of {n} episodes against λ; ring: the least"
    figure, panels = drawing.titled(what, [report], title, [drawing.LIMIT.split("\n")[0]], len(families), 3.6)
    for axes, (family, found) in zip(panels, families.items(), strict=True):
        x, names = np.array(list(found)), list(found.values())
        variance, bias = [a / n for a in plotted.of(report, names, "trace")], plotted.bias(report, names)
        both = (variance[0] + bias[0], np.hypot(variance[1], bias[1]))
        shown = [plotted.spreads(report, names, 1 / n), plotted.clean(*bias), plotted.clean(*both)]
        points = np.stack(shown, axis=1)
        drawing.curves(axes, x, (*points[:3], points[3] > 0), [f"variance / {n}", "squared bias", "sum"])
        drawing.log(axes, "y")
        if np.isfinite(points[0, 2]).any():
            least = np.nanargmin(points[0, 2])
            axes.plot(x[least], points[0, 2, least], "o", ms=11, mfc="none", mec="k")
        fields = [f for f in dataclasses.fields(family) if f.name not in ("returns", "lambda_", "batch")]
        differs = [f"{f.name}={getattr(family, f.name)}" for f in fields if getattr(family, f.name) != f.default]
        axes.set_title(text(", ".join([family.returns, *differs])), fontsize=9)
        axes.set_xlabel("λ")
    panels[0].set_ylabel("squared norm of the error")
    drawing.finish(figure, path)


def decomposition(reports: Any, path: Any, title: str = "", xlabel: str = "update") -> None:
    """Stacked trajectory, action and state terms of a step's variance (Tucker et al. 2018), one bar per estimator.

    Args:
      reports: one Report; or label -> Report, each a group of bars: the decomposition along training.
    """
    reports = reports if isinstance(reports, dict) else {"": reports}
    every, parts = plotted.every(list(reports.values())), []
    for r in reports.values():
        parts.append({n: row["decomposition"] for n, row in r.summary["estimators"].items() if "decomposition" in row})
    names = [name for name in every if any(name in found for found in parts)]
    if not names:
        raise NothingToDrawError("decomposition needs the terms of the variance: measure with states=64, say")
    bars = [(g, i) for g in range(len(parts)) for i, name in enumerate(names) if name in parts[g]]
    found, step = [parts[g][names[i]] for g, i in bars], len(names) + 1
    x, bottom, top = np.array([g * step + i for g, i in bars], float), np.zeros(len(bars)), np.zeros(len(bars))
    what = "Where the variance of one step's term comes from"
    figure, (axes,) = drawing.titled(what, list(reports.values()), title, ["trajectory"], 1, max(4.6, 1 + 0.2 * len(x)))
    for term, color in TERMS.items():
        height = np.nan_to_num(plotted.numbers([f[term] for f in found])[0], posinf=0.0, neginf=0.0)
        axes.bar(x, height, 0.85, np.where(height < 0, bottom, top), color=color, label=term)
        bottom, top = bottom + np.minimum(height, 0), top + np.maximum(height, 0)
    total, error = plotted.numbers([f["total"] for f in found])
    axes.errorbar(x, np.where(np.isfinite(total), total, np.nan), 2 * error, fmt="k_", ms=4, lw=0.9, label="total")
    axes.axhline(0, color="k", lw=0.6)
    axes.set_xticks(x, [text(names[i]) for _, i in bars], rotation=90, fontsize=7)
    if len(parts) > 1:
        above = axes.secondary_xaxis("top")
        above.set_xticks([g * step + step / 2 - 1 for g in range(len(parts))], [str(label) for label in reports])
        above.set_xlabel(xlabel)
        above.tick_params(length=0)
        above.spines["top"].set_visible(False)
    axes.set_ylabel("trace of the covariance of one step's term")
    drawing.finish(figure, path)


def pareto(report: Report, path: Any, title: str = "") -> None:
    """Variance of one episode's estimate against its seconds, the front, and lines of equal variance x seconds."""
    rows = {name: row for name, row in report.summary["estimators"].items() if "seconds_per_episode" in row}
    if not rows:
        raise NothingToDrawError("pareto needs seconds_per_episode: measure with timing=True")
    x = np.array([row["seconds_per_episode"]["value"] for row in rows.values()], float)
    labels = [f"{name} (biased)" if row.get("unbiased") is False else name for name, row in rows.items()]
    points = plotted.spreads(report, list(rows))
    figure, (axes,) = drawing.titled("Variance against time; curves: variance × seconds", [report], title, labels)
    drawing.points(axes, plotted.clean(x, np.zeros_like(x)), points, labels)
    order = [k for k in np.lexsort((points[0], x)) if np.isfinite(points[0][k])]
    front = [k for i, k in enumerate(order) if points[0][k] < min(points[0][order[:i]], default=math.inf)]
    axes.step(x[front], points[0][front], "k-", lw=1, where="post", zorder=1.5, label="Pareto front")
    drawing.contours(axes, lambda x, y: x * y)
    axes.set_xlabel("seconds of one episode and its gradient")
    axes.set_ylabel("variance of one episode's estimate (trace)")
    drawing.finish(figure, path)


def layers(report: Report, path: Any, title: str = "") -> None:
    """Variance of one episode's estimate, summed over each layer's parameters."""
    with importing("matplotlib"):
        from matplotlib.colors import LogNorm

    values = np.asarray(report.data["layer_variance"].values, float)
    values = np.where(np.isfinite(values) & (values > SMALLEST), values, np.nan)
    if np.isnan(values).all():
        raise NothingToDrawError("layers: no layer has a variance that is positive and finite")
    low, high = np.nanmin(values), np.nanmax(values)
    norm = LogNorm(low, high) if low < high * (1 - 1e-9) else LogNorm(*limits(values, log=True))
    drawing.heat_map(
        report, values, "layer", norm, "{:.2g}", "Variance of one episode's estimate (trace), by layer", path, title
    )


def pairwise(report: Report, path: Any, title: str = "") -> None:
    """Mean cosine between two estimates from the same episodes, at the largest batch."""
    with importing("matplotlib"):
        from matplotlib.colors import Normalize

    values = np.asarray(report.data["pairwise_cosine"].isel(batch=-1).values, float)
    if len(values) < 2 or not np.isfinite(values).any():
        raise NothingToDrawError("pairwise needs 2 estimators or more with finite cosines")
    norm, size = Normalize(min(np.nanmin(values), 0.99), 1), report.data["batch"].values[-1]
    drawing.heat_map(
        report, values, "other", norm, "{:.2f}", f"Cosine between estimates of {size} episodes", path, title
    )


def along_training(reports: dict[int, Report], path: Any, title: str = "") -> None:
    """Variance, signal-to-noise ratio and cosine at the largest batch, against update."""
    if not isinstance(reports, dict) or not reports:
        raise NothingToDrawError("along_training needs reports by update, and got none")
    x, found = np.array(sorted(reports), float), [reports[update] for update in sorted(reports)]
    names = plotted.every(found)
    batch = plotted.either({max(r.summary["batch"]) for r in found})
    figure, panels = drawing.titled("Gradient estimates along training", found, title, names, 3, width=3.6)
    labels = ("variance of one episode's estimate (trace)", "signal-to-noise ratio of one episode's estimate")
    for axes, quantity, label in zip(panels, ("trace", "snr"), labels, strict=False):
        if quantity == "trace":
            columns = [plotted.spreads(r, names) for r in found]
        else:
            columns = [plotted.clean(*plotted.of(r, names, quantity)) for r in found]
        drawing.curves(axes, x, tuple(np.stack(c, axis=1) for c in zip(*columns, strict=True)), names)
        drawing.log(axes, "y")
        axes.set_ylabel(label)
    values, errors = (
        np.stack(c, axis=1)[..., -1] for c in zip(*(plotted.of(r, names, "cosine") for r in found), strict=True)
    )
    drawing.cosines(panels[2], x, values, errors, names)
    panels[2].set_ylabel(f"cosine to the true gradient, {batch} episodes")
    for axes in panels:
        axes.set_xlabel("update")
    drawing.finish(figure, path)


def write_all(report: Report, folder: Any, rows: dict[str, Any] | None = None, title: str = "") -> list[pathlib.Path]:
    """Draw every figure of one report that it has numbers for; `rows` name -> ScoreFunction are for the sweep."""
    folder, written = pathlib.Path(folder), []
    folder.mkdir(parents=True, exist_ok=True)
    single = (bias_against_variance, cosine_against_batch, error_against_batch, decomposition, pareto, layers, pairwise)
    drawings: dict[str, Callable[[Report, Any, str], None]] = {draw.__name__: draw for draw in single}
    drawings["lambda_sweep"] = lambda report, path, title: lambda_sweep(report, rows or {}, path, title)
    for name, draw in drawings.items():
        try:
            draw(report, folder / f"{name}.png", title)
        except NothingToDrawError:
            continue
        written.append(folder / f"{name}.png")
    return written

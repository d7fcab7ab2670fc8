"""Reports of comparisons in; figures for a paper out, as PNG.

Error bars are two standard errors either way. On a logarithmic axis, an open marker with an arrow is a number
that two standard errors don't tell from 0: it stands at the upper end of its bar.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pgjax.variance.report import Report

TERMS = {"trajectory": "#4477aa", "action": "#ee6677", "state": "#ccbb44"}
MARKERS = "osD^vPX"  # 7 markers by 10 colours: a style comes back after 70 estimators
COSINES = np.array([-1, -0.5, 0, 0.25, 0.5, 0.75, 0.9, 0.99, 1])
LIMIT = "upper end of the bar,\nnot told from 0"
NOTHING = " (no number)"


class NothingToDrawError(ValueError):
    """The report lacks what the figure shows."""


def bias_against_variance(report: Report, path: Any, title: str = "", n: int = 64) -> None:
    """Bias against the standard deviation of one episode's estimate, and curves of equal error of the mean of n.

    A cross is the exact value, where it is known and on the axes.
    """
    names, rows = _every([report]), report.summary["estimators"]
    what = f"Bias and variance; curves: root-mean-square error of the mean of {n} episodes"
    figure, (axes,) = _figure(what, [report], title, names)
    _points(
        axes,
        _clean(*_of(report, names, "trace"), root=True, positive=True),
        _clean(*_bias(report, names), root=True),
        names,
    )
    exact = [(row["exact_trace"]["value"], row["exact_bias"]["value"]) for row in rows.values() if "exact_bias" in row]
    low = axes.get_ylim()[0]
    shown = [(math.sqrt(t), b) for t, b in exact if 0 < t < math.inf and low < b < math.inf]
    if shown:
        axes.plot(*zip(*shown, strict=True), "kx", ms=4, mew=0.8, zorder=5, label="exact")
    _contours(axes, lambda x, y: np.sqrt(y**2 + x**2 / n))
    axes.set_xlabel("standard deviation of one episode's estimate (root of the trace)")
    axes.set_ylabel("norm of the bias")
    _finish(figure, path)


def cosine_against_batch(report: Report, path: Any, title: str = "") -> None:
    """The mean cosine of the estimate to the true gradient, on an axis that is linear in the angle."""
    names, x = _every([report]), np.array(report.summary["batch"], float)
    figure, (axes,) = _figure("Cosine of the estimate to the true gradient", [report], title, names)
    _cosines(axes, x, *_of(report, names, "cosine"), names, ranked=True)
    _batch_axis(axes, x)
    _finish(figure, path)


def error_against_batch(report: Report, path: Any, title: str = "") -> None:
    """Root-mean-square error over the norm of the gradient; a natural gradient's is over its own norm."""
    names, x = _every([report]), np.array(report.summary["batch"], float)
    target, truth = (np.asarray(report.data[v].values, float) for v in ("target", "truth"))
    norm = np.where((target == truth).all(axis=-1), _numbers([report.summary["gradient_norm"]])[0], _norm(target))
    if not (norm > 0).all():
        raise NothingToDrawError("error_against_batch divides by the norm of the gradient, which was measured as 0")
    values, errors = (a / norm[:, None] ** 2 for a in _of(report, names, "mse"))
    points = _clean(values, errors, root=True)
    figure, (axes,) = _figure("Error of the mean of a batch, relative to the gradient", [report], title, names)
    _curves(axes, x, points, names, ranked=True)
    _log(axes, "y")
    axes.plot(x, 0.7 * np.nanmin(points[0] * np.sqrt(x)) / np.sqrt(x), "--", color="0.5", label="slope −1/2")
    axes.set_ylabel("root-mean-square error / norm of the gradient")
    _batch_axis(axes, x)
    _finish(figure, path)


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
    figure, panels = _figure(what, [report], title, [LIMIT.split("\n")[0]], len(families), 3.6)
    for axes, (family, found) in zip(panels, families.items(), strict=True):
        x, names = np.array(list(found)), list(found.values())
        variance, bias = [a / n for a in _of(report, names, "trace")], _bias(report, names)
        both = (variance[0] + bias[0], np.hypot(variance[1], bias[1]))
        points = np.stack([_clean(*pair) for pair in (variance, bias, both)], axis=1)
        _curves(axes, x, (*points[:3], points[3] > 0), [f"variance / {n}", "squared bias", "sum"])
        _log(axes, "y")
        if np.isfinite(points[0, 2]).any():
            least = np.nanargmin(points[0, 2])
            axes.plot(x[least], points[0, 2, least], "o", ms=11, mfc="none", mec="k")
        fields = [f for f in dataclasses.fields(family) if f.name not in ("returns", "lambda_", "batch")]
        differs = [f"{f.name}={getattr(family, f.name)}" for f in fields if getattr(family, f.name) != f.default]
        axes.set_title(_text(", ".join([family.returns, *differs])), fontsize=9)
        axes.set_xlabel("λ")
    panels[0].set_ylabel("squared norm of the error")
    _finish(figure, path)


def decomposition(reports: Any, path: Any, title: str = "", xlabel: str = "update") -> None:
    """Stacked trajectory, action and state terms of a step's variance (Tucker et al. 2018), one bar per estimator.

    Args:
      reports: one Report; or label -> Report, each a group of bars: the decomposition along training.
    """
    reports = reports if isinstance(reports, dict) else {"": reports}
    every, parts = _every(list(reports.values())), []
    for r in reports.values():
        parts.append({n: row["decomposition"] for n, row in r.summary["estimators"].items() if "decomposition" in row})
    names = [name for name in every if any(name in found for found in parts)]
    if not names:
        raise NothingToDrawError("decomposition needs the terms of the variance: measure with states=64, say")
    bars = [(g, i) for g in range(len(parts)) for i, name in enumerate(names) if name in parts[g]]
    found, step = [parts[g][names[i]] for g, i in bars], len(names) + 1
    x, bottom, top = np.array([g * step + i for g, i in bars], float), np.zeros(len(bars)), np.zeros(len(bars))
    what = "Where the variance of one step's term comes from"
    figure, (axes,) = _figure(what, list(reports.values()), title, ["trajectory"], 1, max(4.6, 1 + 0.2 * len(x)))
    for term, color in TERMS.items():
        height = np.nan_to_num(_numbers([f[term] for f in found])[0], posinf=0.0, neginf=0.0)
        axes.bar(x, height, 0.85, np.where(height < 0, bottom, top), color=color, label=term)
        bottom, top = bottom + np.minimum(height, 0), top + np.maximum(height, 0)
    total, error = _numbers([f["total"] for f in found])
    axes.errorbar(x, np.where(np.isfinite(total), total, np.nan), 2 * error, fmt="k_", ms=4, lw=0.9, label="total")
    axes.axhline(0, color="k", lw=0.6)
    axes.set_xticks(x, [_text(names[i]) for _, i in bars], rotation=90, fontsize=7)
    if len(parts) > 1:
        above = axes.secondary_xaxis("top")
        above.set_xticks([g * step + step / 2 - 1 for g in range(len(parts))], [str(label) for label in reports])
        above.set_xlabel(xlabel)
        above.tick_params(length=0)
        above.spines["top"].set_visible(False)
    axes.set_ylabel("trace of the covariance of one step's term")
    _finish(figure, path)


def pareto(report: Report, path: Any, title: str = "") -> None:
    """Variance of one episode's estimate against its seconds, the front, and lines of equal variance x seconds."""
    rows = {name: row for name, row in report.summary["estimators"].items() if "seconds_per_episode" in row}
    if not rows:
        raise NothingToDrawError("pareto needs seconds_per_episode: measure with timing=True")
    x = np.array([row["seconds_per_episode"] for row in rows.values()], float)
    labels = [f"{name} (biased)" if row.get("unbiased") is False else name for name, row in rows.items()]
    points = _clean(*_of(report, list(rows), "trace"), positive=True)
    figure, (axes,) = _figure("Variance against time; curves: variance × seconds", [report], title, labels)
    _points(axes, _clean(x, 0 * x), points, labels)
    order = [k for k in np.lexsort((points[0], x)) if np.isfinite(points[0][k])]
    front = [k for i, k in enumerate(order) if points[0][k] < min(points[0][order[:i]], default=math.inf)]
    axes.step(x[front], points[0][front], "k-", lw=1, where="post", zorder=1.5, label="Pareto front")
    _contours(axes, lambda x, y: x * y)
    axes.set_xlabel("seconds of one episode and its gradient")
    axes.set_ylabel("variance of one episode's estimate (trace)")
    _finish(figure, path)


def layers(report: Report, path: Any, title: str = "") -> None:
    """Variance of one episode's estimate, summed over each layer's parameters."""
    from matplotlib.colors import LogNorm

    values = np.asarray(report.data["layer_variance"].values, float)
    values = np.where(np.isfinite(values) & (values > 0), values, np.nan)
    if np.isnan(values).all():
        raise NothingToDrawError("layers: no layer has a variance that is positive and finite")
    low, high = np.nanmin(values), np.nanmax(values)
    norm = LogNorm(low, high) if low < high else LogNorm(low / 2, high * 2)
    _map(report, values, "layer", norm, "{:.2g}", "Variance of one episode's estimate (trace), by layer", path, title)


def pairwise(report: Report, path: Any, title: str = "") -> None:
    """Mean cosine between two estimates from the same episodes, at the largest batch."""
    from matplotlib.colors import Normalize

    values = np.asarray(report.data["pairwise_cosine"].isel(batch=-1).values, float)
    if len(values) < 2 or not np.isfinite(values).any():
        raise NothingToDrawError("pairwise needs 2 estimators or more with finite cosines")
    norm, size = Normalize(min(np.nanmin(values), 0.99), 1), report.data["batch"].values[-1]
    _map(report, values, "other", norm, "{:.2f}", f"Cosine between estimates of {size} episodes", path, title)


def along_training(reports: dict[int, Report], path: Any, title: str = "") -> None:
    """Variance, signal-to-noise ratio and cosine at the largest batch, against update."""
    if not isinstance(reports, dict) or not reports:
        raise NothingToDrawError("along_training needs reports by update, and got none")
    x, found = np.array(sorted(reports), float), [reports[update] for update in sorted(reports)]
    names = _every(found)
    batch = _either({max(r.summary["batch"]) for r in found})
    figure, panels = _figure("Gradient estimates along training", found, title, names, 3, width=3.6)
    labels = ("variance of one episode's estimate (trace)", "signal-to-noise ratio of one episode's estimate")
    for axes, quantity, label in zip(panels, ("trace", "snr"), labels, strict=False):
        columns = [_of(r, names, quantity) for r in found]
        values, errors = (np.stack(c, axis=1) for c in zip(*columns, strict=True))
        _curves(axes, x, _clean(values, errors, positive=quantity == "trace"), names)
        _log(axes, "y")
        axes.set_ylabel(label)
    values, errors = (np.stack(c, axis=1)[..., -1] for c in zip(*(_of(r, names, "cosine") for r in found), strict=True))
    _cosines(panels[2], x, values, errors, names)
    panels[2].set_ylabel(f"cosine to the true gradient, {batch} episodes")
    for axes in panels:
        axes.set_xlabel("update")
    _finish(figure, path)


def write_all(report: Report, folder: Any, rows: dict[str, Any] | None = None, title: str = "") -> list[pathlib.Path]:
    """Draw every figure of one report that it has numbers for; `rows` name -> ScoreFunction are for the sweep."""
    folder, written = pathlib.Path(folder), []
    folder.mkdir(parents=True, exist_ok=True)
    single = (bias_against_variance, cosine_against_batch, error_against_batch, decomposition, pareto, layers, pairwise)
    drawings = {draw.__name__: draw for draw in single}
    drawings["lambda_sweep"] = lambda report, path, title: lambda_sweep(report, rows or {}, path, title)
    for name, draw in drawings.items():
        try:
            draw(report, folder / f"{name}.png", title)
        except NothingToDrawError:
            continue
        written.append(folder / f"{name}.png")
    return written


def _numbers(found: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Values and standard errors, 0 where exact, NaN where there is no number."""
    pairs = [(x["value"], x.get("se", 0.0)) for x in found]
    return tuple(np.array([p[i] for p in pairs], float) for i in (0, 1))


def _of(report: Report, names: Sequence[str], quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """[K] or, of curves, [K, batch]; NaN for an estimator that the report lacks."""
    rows, none = report.summary["estimators"], {"value": math.nan}
    if quantity in ("mse", "cosine"):
        none = [none] * len(report.summary["batch"])
        both = [_numbers(rows[n][quantity] if n in rows else none) for n in names]
        return np.stack([b[0] for b in both]), np.stack([b[1] for b in both])
    return _numbers([rows[n][quantity] if n in rows else none for n in names])


def _every(reports: Sequence[Report]) -> list[str]:
    names = list(dict.fromkeys(name for r in reports for name in r.summary["estimators"]))
    if not names:
        raise NothingToDrawError("the report has no estimators")
    return names


def _bias(report: Report, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """bias^2 and its standard error: the norm's, which report.summary has, undone as numbers.estimator made it."""
    bias, error = _of(report, names, "bias")
    return bias**2, np.where(error >= bias, error**2, 2 * bias * error)


def _clean(value: np.ndarray, error: np.ndarray, root: bool = False, positive: bool = False) -> tuple[np.ndarray, ...]:
    """For a logarithmic axis: y, down and up to the ends of its bar, and whether y is but an upper limit.

    What is positive by definition, a variance, has its bar by the error of its logarithm and is no limit.
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


def _norm(x: np.ndarray) -> np.ndarray:
    return np.sqrt((x**2).sum(axis=-1))


def _either(values: set[Any]) -> str:
    return " or ".join(map(str, sorted(values, key=str)))


def _text(name: str) -> str:
    """A name that matplotlib neither reads as mathematics nor leaves out of a legend."""
    return name.replace("$", r"\$").lstrip("_") or "?"


def _figure(
    what: str,
    reports: Sequence[Report],
    title: str,
    names: Sequence[str],
    panels: int = 1,
    width: float = 4.8,
    height: float = 0,
) -> tuple[Any, Any]:
    """A figure and its axes, with room for a legend of these names and a title of what was measured."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    facts = [r.summary for r in reports]
    episodes = _either({f["episodes"] for f in facts})
    sources = {f["reference_episodes"] for f in facts}
    truth = "the exact gradient" if sources == {"exact"} else f"a reference of {_either(sources)} episodes"
    measured = f"{episodes} episodes, discount {facts[0]['discount']:g}, against {truth}"
    columns = 1 + (len(names) > 30)
    legend = columns * (0.5 + 0.065 * max(map(len, names), default=0))
    size = (panels * width + legend, height or max(4.2, 1.3 + 0.18 * len(names) / columns))
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle("\n".join(filter(None, (title, what, measured))), x=0.01, ha="left", fontsize=9)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for one in axes:
        one.grid(alpha=0.25)
        one.set_axisbelow(True)
        one.tick_params(labelsize=8)
        one.xaxis.label.set_size(9)
        one.yaxis.label.set_size(9)
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _finish(figure: Any, path: Any) -> None:
    """One legend for all panels, to the right of the last."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    panels = [axes for axes in figure.axes if axes.get_subplotspec()]
    for axis in (a for axes in panels for a in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        if isinstance(axis.get_major_locator(), LogLocator) and not 8 < high / low < 1000:
            axis.set_major_locator(MaxNLocator(5) if high < 8 * low else LogLocator())
    found = {label: h for axes in panels for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    found = {x: h for x, h in found.items() if x.removesuffix(NOTHING) == x or x.removesuffix(NOTHING) not in found}
    if LIMIT in found:
        found[LIMIT] = found.pop(LIMIT)
    options = {"fontsize": 7.5, "frameon": False, "title": "bars: ± 2 standard errors", "title_fontsize": 7.5}
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.02), "ncols": 1 + (len(found) > 30)}
    panels[-1].legend(found.values(), found.keys(), **options, **place)
    figure.savefig(path, dpi=150)


def _series(axes: Any, x: Any, points: tuple, k: int, label: str, line: str = "-", across: Any = None) -> None:
    """Points with bars in the k-th style, and their line in the legend."""
    y, down, up, limit = points
    color, marker = f"C{k % 10}", MARKERS[k % len(MARKERS)]
    label = _text(label) + ("" if np.isfinite(y).any() else NOTHING)
    axes.plot([], [], ls=line, color=color, marker=marker, ms=5, lw=1.2, label=label)
    axes.plot(x, y, ls=line, color=color, lw=1.2)
    style = {"fmt": "none", "ecolor": color, "elinewidth": 0.9, "capsize": 1.5}
    axes.errorbar(x, y, (down, up), across, uplims=limit, **style)
    for chosen, face in ((~limit, color), (limit, "white")):
        shown = np.where(chosen, y, np.nan)
        axes.plot(x, shown, ls="", marker=marker, ms=5, mfc=face, mec=color, zorder=3)
    if (limit & np.isfinite(y)).any():
        axes.plot([], [], ls="", marker="o", ms=5, mfc="white", mec="0.4", label=LIMIT)


def _points(axes: Any, x: tuple, y: tuple, names: Sequence[str]) -> None:
    """One point per estimator on two logarithmic axes."""
    shown = np.isfinite(x[0]) & np.isfinite(y[0])
    if not shown.any():
        raise NothingToDrawError("no estimator has two numbers that are positive and finite")
    _log(axes, "x")
    _log(axes, "y")
    axes.margins(0.12)
    for k, name in enumerate(names):
        here = slice(k, k + 1)
        value = tuple(a[here] if shown[k] else np.full(1, np.nan) for a in y[:3])
        _series(axes, x[0][here], (*value, y[3][here]), k, name, "none", [a[here] for a in x[1:3]])


def _curves(axes: Any, x: np.ndarray, points: tuple, names: Sequence[str], ranked: bool = False) -> None:
    """[K, X] points as K lines; ranked: the legend from top to bottom as the lines end, bars side by side."""
    y = points[0]
    if not np.isfinite(y).any():
        raise NothingToDrawError("no estimator has a number to draw that is finite")
    last = [next((v for v in row[::-1] if np.isfinite(v)), -math.inf) for row in y]
    for k in np.argsort(last)[::-1] if ranked else range(len(names)):
        aside = math.exp(0.16 * ((k + 0.5) / len(names) - 0.5)) if ranked else 1.0
        _series(axes, x * aside, tuple(a[k] for a in points), k, names[k])


def _cosines(axes: Any, x: np.ndarray, values: np.ndarray, errors: np.ndarray, names: Any, ranked: bool = False):
    values, errors = np.where(np.isfinite(values), values, np.nan), np.nan_to_num(errors, posinf=0.0)
    y, low, high = (np.clip(values + by * errors, -1, 1) for by in (0, -2, 2))
    _curves(axes, x, (y, y - low, high - y, np.zeros(y.shape, bool)), names, ranked)
    least = COSINES[COSINES <= min(np.nanmin(low), 0.9)].max()
    to_angle, back = lambda c: -np.arccos(np.clip(c, -1, 1)), lambda a: np.cos(np.clip(a, -np.pi, 0))
    axes.set_yscale("function", functions=(to_angle, back))
    axes.set_yticks(COSINES, [f"{c:g}" for c in COSINES])
    axes.set_ylim(least, 1)
    for level in (0.9, 0.99):
        axes.axhline(level, color="0.4", lw=0.9, ls="--", zorder=1)
    axes.set_ylabel("cosine to the true gradient")


def _log(axes: Any, which: str) -> None:
    """Logarithmic, with plain numbers at 1, 2 and 5."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:.3g}")


def _batch_axis(axes: Any, x: np.ndarray) -> None:
    axes.set_xscale("log")
    axes.set_xticks(x, [f"{n:g}" for n in x])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("batch size (episodes)")


def _contours(axes: Any, quantity: Callable[[Any, Any], Any]) -> None:
    """Light labelled curves on which quantity(x, y) is the same, at 1, 2, 5 or else at powers of ten."""
    x, y = (np.geomspace(*limits, 200) for limits in (axes.get_xlim(), axes.get_ylim()))
    z = quantity(x[None], y[:, None])
    low, high = math.log10(z.min()), math.log10(z.max())
    decades = 10.0 ** np.arange(math.floor(low), math.ceil(high) + 1)
    for steps in ([1, 2, 5], [1, 3], [1]):
        levels = [v for v in np.outer(decades, steps).ravel() if z.min() < v < z.max()]
        if len(levels) <= 8:
            break
    levels = levels[:: len(levels) // 9 + 1] or [math.sqrt(z.min() * z.max())]
    lines = axes.contour(x, y, z, levels, colors="0.7", linewidths=0.7, zorder=0.5)
    axes.clabel(lines, fontsize=6.5, colors="0.45", fmt="%.2g")


def _map(report: Report, values: np.ndarray, columns: str, norm: Any, form: str, what: str, path: Any, title: str):
    """Estimators x columns as colours, with the values in the cells when they are few."""
    import matplotlib

    names, across = ([str(x) for x in report.data[d].values] for d in ("estimator", columns))
    few = values.size <= 260
    width, height = (
        max(4.0, 2 + (0.38 if few else 0.2) * len(across)),
        1.8 + 0.19 * len(names) + 0.06 * max(map(len, across)),
    )
    figure, (axes,) = _figure(what, [report], title, names, 1, width, height)
    colors = matplotlib.colormaps["viridis"].with_extremes(bad="0.85")
    image = axes.imshow(np.ma.masked_invalid(values), cmap=colors, norm=norm, aspect="auto")
    axes.set_xticks(range(len(across)), [_text(n) for n in across], rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), [_text(n) for n in names], fontsize=7)
    axes.grid(False)
    for (i, j), v in np.ndenumerate(values):
        if few and np.isfinite(v):
            axes.text(j, i, form.format(v), ha="center", va="center", fontsize=6, color="wk"[int(norm(v) > 0.55)])
    figure.colorbar(image, ax=axes, shrink=0.8)
    figure.savefig(path, dpi=150)

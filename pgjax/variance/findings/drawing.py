"""Points, curves and maps on the axes of the laboratory's figures."""

import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pgjax.analysis import drawing
from pgjax.analysis.axis_limits import limits
from pgjax.analysis.drawing import NothingToDrawError, text
from pgjax.dependencies import importing
from pgjax.variance.findings.plotted import either, every
from pgjax.variance.findings.report import Report

MARKERS = "osD^vPX"  # 7 markers by 10 colours: a style comes back after 70 estimators
COSINES = np.array([-1, -0.5, 0, 0.25, 0.5, 0.75, 0.9, 0.99, 1])
LIMIT = "upper end of the bar,\nnot told from 0"
NOTHING = " (no number)"
Points = tuple[np.ndarray, ...]  # y, down and up to the ends of its bar, whether y is an upper limit: see `plotted`


def titled(
    what: str,
    reports: Sequence[Report],
    title: str,
    names: Sequence[str],
    panels: int = 1,
    width: float = 4.8,
    height: float = 0,
) -> tuple[Any, Any]:
    """A figure and its axes [panels], with room for a legend of these names and a title of what was measured."""
    facts = [r.summary for r in reports]
    episodes = either({f["episodes"] for f in facts})
    sources = {f["reference_episodes"] for f in facts}
    truth = "the exact gradient" if sources == {"exact"} else f"a reference of {either(sources)} episodes"
    measured = f"{episodes} episodes, discount {facts[0]['discount']:g}, against {truth}"
    doubted = [n for n in every(reports) if any(f["estimators"].get(n, {}).get("doubt") for f in facts)]
    tails = f"long tails, not to be trusted: {', '.join(map(text, doubted))}" if doubted else ""
    columns = 1 + (len(names) > 30)
    legend = columns * (0.5 + 0.065 * max(map(len, names), default=0))
    size = (panels * width + legend, height or max(4.2, 1.3 + 0.18 * len(names) / columns))
    figure, (axes,) = drawing.canvas("", *size, panels=(1, panels))
    lines = (title, what, measured, textwrap.fill(tails, 80))
    figure.suptitle("\n".join(filter(None, lines)), x=0.01, ha="left", fontsize=9)
    return figure, axes


def finish(figure: Any, path: Any) -> None:
    """One legend for all panels, to the right of the last."""
    with importing("matplotlib"):
        from matplotlib.ticker import LogLocator, MaxNLocator

    panels = [axes for axes in figure.axes if axes.get_subplotspec()]
    for axis in (a for axes in panels for a in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        if isinstance(axis.get_major_locator(), LogLocator) and low > 0 and not 8 < high / low < 1000:
            axis.set_major_locator(MaxNLocator(5) if high < 8 * low else LogLocator())
    found = {label: h for axes in panels for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    found = {x: h for x, h in found.items() if x.removesuffix(NOTHING) == x or x.removesuffix(NOTHING) not in found}
    if LIMIT in found:
        found[LIMIT] = found.pop(LIMIT)
    options = {
        "fontsize": 7.5,
        "frameon": False,
        "title": "bars: ± 2 standard errors;\nof variances 95 % intervals",
        "title_fontsize": 7.5,
    }
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.02), "ncols": 1 + (len(found) > 30)}
    panels[-1].legend(found.values(), found.keys(), **options, **place)
    figure.savefig(path, dpi=150)


def series(axes: Any, x: Any, points: Points, k: int, label: str, line: str = "-", across: Any = None) -> None:
    """Points with bars in the k-th style, and their line in the legend."""
    y, down, up, limit = points
    color, marker = f"C{k % 10}", MARKERS[k % len(MARKERS)]
    label = text(label) + ("" if np.isfinite(y).any() else NOTHING)
    axes.plot([], [], ls=line, color=color, marker=marker, ms=5, lw=1.2, label=label)
    axes.plot(x, y, ls=line, color=color, lw=1.2)
    style = {"fmt": "none", "ecolor": color, "elinewidth": 0.9, "capsize": 1.5}
    axes.errorbar(x, y, (down, up), across, uplims=limit, **style)
    for chosen, face in ((~limit, color), (limit, "white")):
        shown = np.where(chosen, y, np.nan)
        axes.plot(x, shown, ls="", marker=marker, ms=5, mfc=face, mec=color, zorder=3)
    if (limit & np.isfinite(y)).any():
        axes.plot([], [], ls="", marker="o", ms=5, mfc="white", mec="0.4", label=LIMIT)


def points(axes: Any, x: Points, y: Points, names: Sequence[str]) -> None:
    """One point per estimator on two logarithmic axes."""
    shown = np.isfinite(x[0]) & np.isfinite(y[0])
    if not shown.any():
        raise NothingToDrawError("no estimator has two numbers that are positive and finite")
    log(axes, "x")
    log(axes, "y")
    frame(axes, x, y)
    for k, name in enumerate(names):
        here = slice(k, k + 1)
        value = tuple(a[here] if shown[k] else np.full(1, np.nan) for a in y[:3])
        series(axes, x[0][here], (*value, y[3][here]), k, name, "none", [a[here] for a in x[1:3]])


def frame(axes: Any, x: Points, y: Points, *more: tuple[Any, Any]) -> None:
    """Two logarithmic axes around the points, their bars, and further pairs (x, y), whatever these are."""
    for which, (value, down, up, *_), others in (("x", x, [m[0] for m in more]), ("y", y, [m[1] for m in more])):
        shown = [np.asarray(a, float) for a in (value, value - down, value + up, *others)]
        axes.set(**{f"{which}lim": limits(*shown, log=True, margin=0.12)})


def curves(axes: Any, x: np.ndarray, points: Points, names: Sequence[str], ranked: bool = False) -> None:
    """[K, X] points as K lines; ranked: the legend from top to bottom as the lines end, bars side by side."""
    y = points[0]
    if not np.isfinite(y).any():
        raise NothingToDrawError("no estimator has a number to draw that is finite")
    last = [next((v for v in row[::-1] if np.isfinite(v)), -math.inf) for row in y]
    for k in np.argsort(last)[::-1] if ranked else range(len(names)):
        aside = math.exp(0.16 * ((k + 0.5) / len(names) - 0.5)) if ranked else 1.0
        series(axes, x * aside, tuple(a[k] for a in points), k, names[k])


def cosines(
    axes: Any, x: np.ndarray, values: np.ndarray, errors: np.ndarray, names: Sequence[str], ranked: bool = False
) -> None:
    """[K, X] cosines with their standard errors as K lines, on an axis that is even in the angle."""
    values, errors = np.where(np.isfinite(values), values, np.nan), np.nan_to_num(errors, posinf=0.0)
    y, low, high = (np.clip(values + by * errors, -1, 1) for by in (0, -2, 2))
    curves(axes, x, (y, y - low, high - y, np.zeros(y.shape, bool)), names, ranked)
    least = COSINES[COSINES <= min(np.nanmin(low), 0.9)].max()
    to_angle, back = lambda c: -np.arccos(np.clip(c, -1, 1)), lambda a: np.cos(np.clip(a, -np.pi, 0))
    axes.set_yscale("function", functions=(to_angle, back))
    axes.set_yticks(COSINES, [f"{c:g}" for c in COSINES])
    axes.set_ylim(least, 1)
    for level in (0.9, 0.99):
        axes.axhline(level, color="0.4", lw=0.9, ls="--", zorder=1)
    axes.set_ylabel("cosine to the true gradient")


def log(axes: Any, which: str) -> None:
    """Logarithmic, with plain numbers at 1, 2 and 5."""
    with importing("matplotlib"):
        from matplotlib.ticker import LogLocator, NullLocator

    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:.3g}")


def batch_axis(axes: Any, x: np.ndarray) -> None:
    """Label the x axis as batch sizes, on a log scale."""
    axes.set_xscale("log")
    axes.set_xticks(x, [f"{n:g}" for n in x])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("batch size (episodes)")


def contours(axes: Any, quantity: Callable[[Any, Any], Any]) -> None:
    """Light labelled curves on which quantity(x, y) is the same, at 1, 2, 5 or else at powers of ten."""
    x, y = (np.geomspace(low, high, 200) for low, high in (axes.get_xlim(), axes.get_ylim()))
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


def heat_map(
    report: Report, values: np.ndarray, columns: str, norm: Any, form: str, what: str, path: Any, title: str
) -> None:
    """Estimators x columns as colours, with the values in the cells when they are few."""
    with importing("matplotlib"):
        import matplotlib

    names, across = ([str(x) for x in report.data[d].values] for d in ("estimator", columns))
    few = values.size <= 260
    width, height = (
        max(4.0, 2 + (0.38 if few else 0.2) * len(across)),
        1.8 + 0.19 * len(names) + 0.06 * max(map(len, across)),
    )
    figure, (axes,) = titled(what, [report], title, names, 1, width, height)
    colors = matplotlib.colormaps["viridis"].with_extremes(bad="0.85")
    image = axes.imshow(np.ma.masked_invalid(values), cmap=colors, norm=norm, aspect="auto")
    axes.set_xticks(range(len(across)), [text(n) for n in across], rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), [text(n) for n in names], fontsize=7)
    axes.grid(False)
    for (i, j), v in np.ndenumerate(values):
        if few and np.isfinite(v):
            axes.text(j, i, form.format(v), ha="center", va="center", fontsize=6, color="wk"[int(norm(v) > 0.55)])
    figure.colorbar(image, ax=axes, shrink=0.8)
    figure.savefig(path, dpi=150)

"""Draws how the final returns of a sweep depend on each hyperparameter, and on each pair."""

import itertools
import pathlib
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from pgjax.analysis import drawing
from pgjax.analysis.axes import Axis, swept
from pgjax.analysis.axis_limits import limits
from pgjax.analysis.drawing import NothingToDrawError, text
from pgjax.analysis.summary import Row, few, rows, scores
from pgjax.dependencies import importing
from pgjax.statistics import bootstrap, naniqm


def influence(metrics: Any) -> dict[str, float]:
    """Hyperparameter -> the share of the variance between settings that it explains alone, the greatest first.

        1 - (sum_h (y_h - mean of its group)^2 / (H - G)) / (sum_h (y_h - mean)^2 / (H - 1)),  0 or more

    the adjusted correlation ratio (Kelley 1935, PNAS 21(9)) of the settings' IQMs y_h in the G groups of the axis:
    its values, or quantiles of them where there are many. Unadjusted where each setting is a group of its own.
    """
    found = _with_finals(metrics)
    y = naniqm(scores(found)[1], axis=0)
    total = ((y - y.mean()) ** 2).sum()
    rounding = len(y) * (1e-12 * np.abs(y).max()) ** 2  # equal settings' means differ in the last digits
    shares = {}
    for axis in swept(found):
        groups = [y[axis.group == g] for g in np.unique(axis.group)]
        within = sum(((part - part.mean()) ** 2).sum() for part in groups)
        free = (len(y) - 1) / (len(y) - len(groups)) if len(y) > len(groups) else 1.0
        shares[axis.name] = max(0.0, float(1 - within * free / total)) if total > rounding else 0.0
    return dict(sorted(shares.items(), key=lambda pair: -pair[1]))


def sensitivity(metrics: Any, path: str | pathlib.Path, title: str = "") -> None:
    """Draw the final return against each hyperparameter, the others marginalised: IQM and its 95 % interval.

    Grey lines join settings that differ in this hyperparameter alone; grey dots are settings that have no such
    partner, as in a sampled search. The interval resamples seeds, for all settings together.

    Args:
      metrics: a dataset, or rows; path: a file, by name or open for bytes.
    Raises:
      NothingToDrawError: where nothing was swept or no setting has a final return.
    """
    found = _with_finals(metrics)
    share, finals = influence(found), scores(found)[1]
    y = naniqm(finals, axis=0)
    axes_of = {axis.name: axis for axis in swept(found)}
    columns = min(3, len(share))
    lines = -(-len(share) // columns)
    figure, panels = drawing.canvas(title, max(5.5, 3.8 * columns), 0.9 + 3 * lines, (lines, columns))
    for panel, name in itertools.zip_longest(panels.flat, share):
        if name is None:
            panel.set_visible(False)
            continue
        axis = axes_of[name]
        for part in _partners(found, axis):
            part = part[np.argsort(axis.position[part], kind="stable")]
            style: dict[str, Any] = {"lw": 0.6} if len(part) > 1 else {"marker": "o", "ms": 3, "ls": "", "mew": 0}
            panel.plot(
                axis.position[part],
                y[part],
                color="0.65",
                alpha=max(0.25, drawing.faintness(len(found))),
                zorder=1,
                **style,
            )
        middle, low, high = np.array([_pooled(finals[:, axis.group == g]) for g in range(len(axis.centre))]).T
        bars = (np.maximum(middle - low, 0), np.maximum(high - middle, 0))
        style = {"color": "C0", "marker": "o", "ms": 5, "lw": 1.8 if axis.numeric else 0, "capsize": 2.5}
        panel.errorbar(axis.centre, middle, bars, elinewidth=1.5, zorder=3, **style)
        panel.set_ylim(drawing.around([y, middle], [(low, high, len(finals))]))
        _label(panel, axis, "x", numeric=axis.numeric)
        panel.set_title(f"explains {share[name]:.0%} of the variance between settings", fontsize=8.5, color="0.35")
        panel.yaxis.set_major_formatter(drawing.scale)
    for panel in panels[:, 0]:
        panel.set_ylabel("final return", fontsize=9)
    said = "blue: IQM over seeds and the other hyperparameters, 95 % interval over seeds; grey: single settings"
    note = few([int((~np.isnan(finals)).any(axis=1).sum())])
    said = "\n".join(filter(None, (said, textwrap.fill(note, 90), _without(metrics, found))))
    figure.supxlabel(said, fontsize=8.5, color="0.35")
    figure.savefig(path, dpi=150)


def heat_maps(metrics: Any, path: str | pathlib.Path, title: str = "", most: int = 4) -> None:
    """Draw the final return against each pair of hyperparameters: the IQM over seeds and the settings in each cell.

    Of more than `most` hyperparameters, the most influential are drawn, and the title names those left out. Where a
    hyperparameter has many values the cells are its quantiles, and dots are the settings themselves.

    Args:
      metrics: a dataset, or rows; path: a file, by name or open for bytes.
    Raises:
      NothingToDrawError: where fewer than two hyperparameters were swept, or no setting has a final return.
    """
    with importing("matplotlib"):
        import matplotlib
        from matplotlib.colors import Normalize

    found = _with_finals(metrics)
    share, finals = influence(found), scores(found)[1]
    axes_of = {axis.name: axis for axis in swept(found)}
    chosen, left = list(share)[:most], list(share)[most:]
    if len(chosen) < 2:
        raise NothingToDrawError(f"a pair needs two hyperparameters that were swept, and there is {len(chosen)}")
    pairs = list(itertools.combinations(chosen, 2))
    cells = {pair: _cells(finals, *(axes_of[n] for n in pair)) for pair in pairs}
    y = naniqm(finals, axis=0)
    seen = np.concatenate([c.ravel() for c in cells.values()])
    norm = Normalize(*limits(seen, margin=0))
    colors = matplotlib.colormaps["viridis"].with_extremes(bad="0.85")
    columns = min(3, len(pairs))
    lines = -(-len(pairs) // columns)
    rest = f"left out, of less influence: {', '.join(f'{n} ({share[n]:.0%})' for n in left)}" if left else ""
    heading = "\n".join(filter(None, (title, rest)))
    figure, panels = drawing.canvas(heading, max(5.5, 0.8 + 3.7 * columns), 0.7 + 3.1 * lines, (lines, columns))
    for panel, pair in itertools.zip_longest(panels.flat, pairs):
        if pair is None:
            panel.set_visible(False)
            continue
        across, up = (axes_of[n] for n in pair)
        panel.grid(False)
        image = panel.pcolormesh(across.edges, up.edges, np.ma.masked_invalid(cells[pair].T), cmap=colors, norm=norm)
        if not (across.few and up.few):
            x, z = (axis.group if axis.few else axis.position for axis in (across, up))
            panel.scatter(x, z, c=y, cmap=colors, norm=norm, s=14, edgecolors="w", linewidths=0.5, zorder=3)
        for (i, j), value in np.ndenumerate(cells[pair]):
            if np.isfinite(value) and across.few and up.few and cells[pair].size <= 64:
                shade = "k" if norm(value) > 0.6 else "w"
                panel.text(i, j, f"{value:.3g}", ha="center", va="center", fontsize=7.5, color=shade)
        _label(panel, across, "x", numeric=not across.few)
        _label(panel, up, "y", numeric=not up.few)
    if _without(metrics, found):
        figure.supxlabel(_without(metrics, found), fontsize=8.5, color="0.35")
    bar = figure.colorbar(image, ax=panels, shrink=0.9, pad=0.02)
    bar.set_label("final return (IQM)", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    figure.savefig(path, dpi=150)


def _with_finals(metrics: Any) -> list[Row]:
    found = [row for row in rows(metrics) if np.isfinite(row.finals).any()]
    if not found:
        raise NothingToDrawError("no setting has a final return")
    if not swept(found):
        raise NothingToDrawError("no hyperparameter has two values among the settings with a final return")
    return found


def _without(metrics: Any, found: Sequence[Row]) -> str:
    missing = len(rows(metrics)) - len(found)
    return f"{missing} settings without a final return are left out" if missing else ""


def _pooled(finals: np.ndarray) -> tuple[float, float, float]:
    """IQM of every run [S, K] of a group of settings, and its interval over seeds."""
    finals = finals[~np.isnan(finals).all(axis=1)]
    low, high = bootstrap(finals, lambda v, axis: naniqm(v.reshape(len(v), -1)), draws=1000)
    return float(naniqm(finals, axis=None)), float(low), float(high)


def _cells(finals: np.ndarray, across: Axis, up: Axis) -> np.ndarray:
    """[G, G'] IQM of the runs in both groups, NaN where there is none."""
    inside = [[(across.group == i) & (up.group == j) for j in range(len(up.centre))] for i in range(len(across.centre))]
    return np.array([[naniqm(finals[:, here], axis=None) if here.any() else np.nan for here in row] for row in inside])


def _partners(found: Sequence[Row], axis: Axis) -> list[np.ndarray]:
    """Groups of places of settings that are equal in every other hyperparameter."""
    parts: dict[tuple[Any, ...], list[int]] = {}
    for h, row in enumerate(found):
        parts.setdefault(tuple((k, v) for k, v in row.values.items() if k != axis.name), []).append(h)
    return [np.array(part) for part in parts.values()]


def _label(panel: Any, axis: Axis, which: str, numeric: bool) -> None:
    """Write the name and the ticks of an axis: numbers on a scale, or every value in its place."""
    with importing("matplotlib"):
        from matplotlib.ticker import NullFormatter

    side = panel.xaxis if which == "x" else panel.yaxis
    side.set_label_text(text(axis.name), fontsize=9)
    if numeric and axis.log:
        panel.set(**{f"{which}scale": "log"})
    if not axis.few:
        if not axis.log:
            side.set_major_formatter(drawing.scale)
        return
    names = axis.ticks()
    turn = {"rotation": 30, "ha": "right"} if which == "x" and sum(map(len, names)) > 30 else {}
    side.set_ticks(axis.centre if numeric else range(len(names)), names, fontsize=8, **turn)
    if numeric:
        side.set_minor_formatter(NullFormatter())

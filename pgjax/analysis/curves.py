"""Draws learning curves: a metric over seeds along training, by setting."""

import pathlib
from typing import IO, Any

import numpy as np

from pgjax.analysis import drawing
from pgjax.analysis.summary import Row, counted, rows
from pgjax.statistics import bootstrap, iqm

EVALUATED = ("eval_return_stochastic", "eval_return_greedy")


def curve(metrics: Any, path: str | pathlib.Path | IO[bytes], title: str = "", name: str = "episode_return") -> None:
    """Draw a metric against environment steps: IQM over seeds and its 95 % interval as a band, by setting.

    Evaluations along training (`eval_every`) have panels of their own beside that of episode_return. Of more than ten
    settings the best and the worst are drawn so, and the others as thin grey lines.
    Settings that a halving rule stopped are drawn up to their stop.

    Args:
      metrics: a dataset, label -> dataset, or rows; path: a file, by name or open for bytes.
    """
    found = list(rows(metrics))
    also = [kind for kind in EVALUATED if name == "episode_return" and any(kind in row.chosen for row in found)]
    figure, axes = drawing.canvas(title, width=7 + 5 * len(also), panels=(1, 1 + len(also)))
    for one, panel in zip(axes[0], (name, *also), strict=True):
        title = _panel(one, [row for row in found if panel in row.chosen], panel)
        if panel == name:
            drawing.legend(figure, one, title)
    figure.savefig(path, dpi=150)


def _panel(axes: Any, found: list[Row], name: str) -> str:
    """Draw one metric; the title of its legend."""
    styles, note = drawing.styles(found)
    ends, lines, bands, counts = set(), [], [], []
    for h, style in styles.items():
        x, y = _shown(found[h], name)
        middle = iqm(y, axis=0) if len(x) else x
        lines.append(middle)
        if len(found) == 1 and not found[h].name:
            style["label"] = f"IQM of {counted(len(y), len(found[h].seeds))} seed{'s' * (len(y) != 1)}"
        if "label" in style:
            style["label"] += found[h].lost + _unseen(found[h], name)
            counts.append(len(y))
        # A line through one point is invisible.
        axes.plot(x, middle, **style, **({"marker": "o", "ms": 4} if np.isfinite(middle).sum() == 1 else {}))
        # Settings that a halving rule stopped were meant to end early.
        ends |= set() if found[h].stopped.any() else set(x[-1:])
        if len(y) > 1 and len(x) and "label" in style:
            low, high = bootstrap(y, draws=500)
            bands.append((low, high, len(y)))
            axes.fill_between(x, low, high, color=style["color"], alpha=0.25, lw=0)
    if ends and min(ends) < 0.9 * max(ends):
        axes.axvline(min(ends), color="0.4", lw=0.9, ls=":", label="the shortest run ends")
    axes.set_xlabel("environment steps of each seed")
    axes.set_ylabel(name.replace("_", " "))
    axes.xaxis.set_major_formatter(drawing.scale)
    if any(np.isfinite(line).any() for line in lines):
        axes.set_ylim(drawing.around(lines, bands))
    return "\n".join(filter(None, (note, drawing.band_note(counts))))


def _unseen(row: Row, name: str) -> str:
    """The lanes that a curve lacks, or lacks in part, though they neither failed nor were stopped."""
    values = row.chosen[name].values[~row.failed & ~row.stopped]
    untrained, infinite = int(np.isnan(values).all(axis=-1).sum()), int(np.isinf(values).any(axis=-1).sum())
    said = f" ({untrained} not trained)" if untrained else ""
    return said + (f" ({infinite} infinite at times)" if infinite else "")


def _shown(row: Row, name: str) -> tuple[np.ndarray, np.ndarray]:
    """x [U] and y [S, U] of the lanes that trained to the end, or of the stopped lanes where no lane did."""
    # An interrupted run has lanes whose turn never came.
    trained = np.isfinite(row.chosen[name].values).any(axis=-1)
    alive = ~row.failed & ~row.stopped & trained
    alive = alive if alive.any() else row.stopped & trained
    if not alive.any():
        return np.empty(0), np.empty((0, 0))
    x, y = on_common_steps(row.chosen, name, alive)
    # Before its first episode ends a lane has no return (NaN), and the curve begins later; where it is infinite, a gap.
    shown = ~np.isnan(y).any(axis=0) & np.isfinite(x)
    return x[shown], np.where(np.isinf(y), np.nan, y)[:, shown]


def on_common_steps(chosen: Any, name: str, finite: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x [U] and the metric [S, U] of the lanes that are finite.

    Where lanes take different numbers of steps (whole episodes), each is interpolated onto the same
    axis, and one that ended earlier keeps its last value, so that late changes of any lane show.
    """
    y = chosen[name].values[finite]
    steps = chosen["env_steps"]
    if steps.dims == ("update",):
        return steps.values, y
    steps = steps.values[finite]
    done = np.isfinite(steps) & np.isfinite(y)
    usable = [i for i in range(len(y)) if done[i].any()]
    if not usable:
        return steps[0], y
    first = max(steps[i][done[i]][0] for i in usable)
    last = max(steps[i][done[i]][-1] for i in usable)
    x = np.linspace(first, last, y.shape[1])
    return x, np.stack([np.interp(x, steps[i][done[i]], y[i][done[i]]) for i in usable])

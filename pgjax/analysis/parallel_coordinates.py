"""Draws the settings of a sweep in parallel coordinates, one line per setting."""

import pathlib
from typing import Any

import numpy as np

from pgjax.analysis import drawing
from pgjax.analysis.axes import Axis, swept
from pgjax.analysis.axis_limits import limits
from pgjax.analysis.drawing import NothingToDrawError, text
from pgjax.analysis.summary import rows, scores
from pgjax.dependencies import importing
from pgjax.statistics import naniqm


def parallel(metrics: Any, path: str | pathlib.Path, title: str = "") -> None:
    """Draw one line per setting through its hyperparameters to its final return (IQM), which is also its colour.

    The best lie on top. On an axis of few values lines are spread a little, by rank, so that none hides another.

    Args:
      metrics: a dataset; path: a file, by name or open for bytes.
    Raises:
      NothingToDrawError: where nothing was swept or no setting has a final return.
    """
    with importing("matplotlib"):
        import matplotlib
        from matplotlib.colors import Normalize

    every = rows(metrics)
    found = [row for row in every if np.isfinite(row.finals).any()]
    axes_of = swept(found) if found else []
    if not axes_of:
        raise NothingToDrawError("parallel coordinates need a hyperparameter that was swept, and final returns")
    y = naniqm(scores(found)[1], axis=0)
    low, high = limits(y, margin=0)
    norm = Normalize(low, high)
    spread = np.empty(len(y))
    spread[np.argsort(y)] = np.linspace(-0.02, 0.02, len(y))
    columns = [_height(axis) + (spread if axis.few else 0) for axis in axes_of]
    heights = np.stack([*columns, np.asarray(norm(y))], axis=1)
    figure, ((axes,),) = drawing.canvas(title, max(5.5, 1.7 * (len(axes_of) + 1)), 4.4)
    colors = matplotlib.colormaps["viridis"]
    for h in np.argsort(y):
        axes.plot(heights[h], color=colors(norm(y[h])), lw=1.1, alpha=min(1.0, 1.3 * drawing.faintness(len(y))))
    last = len(axes_of)
    for place, axis in enumerate(axes_of):
        for at, name in _ticks(axis):
            _tick(axes, place, at, name)
    for value in np.linspace(low, high, 5):
        _tick(axes, last, float(norm(value)), f"{value:.4g}", side=1)
    for place in range(last + 1):
        axes.axvline(place, color="0.2", lw=1, zorder=4)
    names = [text(axis.name).replace("_", "_\n", len(axis.name) // 14) for axis in axes_of]
    axes.set_xticks(range(last + 1), [*names, "final return\n(IQM)"], fontsize=9)
    axes.set_yticks([])
    axes.grid(False)
    axes.set_xlim(-0.35, last + 0.35)
    axes.set_ylim(-0.05, 1.05)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if len(found) < len(every):
        axes.set_xlabel(f"{len(every) - len(found)} settings without a final return are not drawn", fontsize=8.5)
    figure.savefig(path, dpi=150)


def _linear(axis: Axis, values: Any) -> np.ndarray:
    return np.log(values) if axis.log else np.asarray(values, float)


def _height(axis: Axis, values: Any = None) -> np.ndarray:
    """[0, 1] of each setting's value, or of the given ones."""
    own = _linear(axis, axis.position)
    return (_linear(axis, axis.position if values is None else values) - own.min()) / (own.max() - own.min())


def _ticks(axis: Axis) -> list[tuple[float, str]]:
    if axis.few:
        return list(zip(_height(axis, axis.centre), axis.ticks(), strict=True))
    space = np.geomspace if axis.log else np.linspace
    values = space(axis.distinct[0], axis.distinct[-1], 5)
    return [(float(at), f"{value:.2g}") for at, value in zip(_height(axis, values), values, strict=True)]


def _tick(axes: Any, place: float, at: float, name: str, side: int = -1) -> None:
    box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
    where = {"ha": "left" if side > 0 else "right", "va": "center", "fontsize": 7.5, "zorder": 5}
    axes.text(place + 0.03 * side, at, name, bbox=box, **where)

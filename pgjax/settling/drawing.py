"""Draws the intervals of a settlement against the number of seeds."""

import pathlib
from typing import IO, Any

import numpy as np

from pgjax.analysis import drawing
from pgjax.analysis.axis_limits import limits
from pgjax.settling.settlement import Settlement
from pgjax.statistics.sequences import START

NAMES = {"mean": "difference of means, A - B", "iqm": "difference of IQMs, A - B"}


def draw(found: Settlement, path: str | pathlib.Path | IO[bytes]) -> None:
    """Draw both confidence sequences, that which decides on the left.

    Args:
      path: a file, by name or open for bytes.
    Raises:
      NothingToDrawError: where there is no whole round yet.
    """
    if found.sequence is None:
        raise drawing.NothingToDrawError("no round of seeds is whole yet")
    by = found.question["by"]
    order = [by, *(name for name in NAMES if name != by)]
    a, b, env = (found.question[name] for name in ("a", "b", "env"))
    figure, axes = drawing.canvas(f"A: {a}\nB: {b}\non {env}: {found.verdict}", width=11, height=4.6, panels=(1, 2))
    for panel, name in zip(axes[0], order, strict=True):
        _panel(panel, found, name)
    drawing.legend(figure, axes[0, 0], "")
    figure.savefig(path, dpi=150)


def _panel(axes: Any, found: Settlement, name: str) -> None:
    """One sequence: the estimate, the interval as a band, 0, the margin, and where it was decided."""
    sequence, margin, level = getattr(found, name), found.question["margin"], 1 - found.question["error"]
    count = np.arange(1, len(sequence.estimate) + 1)
    held = np.isfinite(sequence.low)
    axes.plot(count, sequence.estimate, color="C0", lw=1.6, label="estimate")
    band = f"{100 * level:g} % at all numbers of seeds together"
    axes.fill_between(count, sequence.low, sequence.high, where=held, color="C0", alpha=0.25, lw=0, label=band)
    axes.axhline(0, color="0.3", lw=1)
    for side in (-1, 1) if margin is not None else ():
        label = {"label": f"margin of {margin:g}"} if side > 0 else {}
        axes.axhline(side * margin, color="C2", lw=1, ls="--", **label)
    if found.after is not None and name == found.question["by"]:
        axes.axvline(found.after, color="C3", lw=1.2, ls=":", label=f"decided: {found.after} seeds")
    late = held & (count >= len(count) / 4)  # where an interval is as wide as the bounds, it runs off the axis
    lines = np.array([0.0] if margin is None else [-margin, margin])
    axes.set_ylim(limits(sequence.estimate, sequence.low[late], sequence.high[late], lines))
    axes.set_xlim(0, len(count) + 1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("seeds of each arm")
    axes.set_ylabel(NAMES[name] + ("" if name == found.question["by"] else " (decides nothing)"))
    if not held.any():
        axes.set_title(f"its interval begins at {START} seeds", fontsize=9)

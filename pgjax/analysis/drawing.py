"""The parts that all figures share: canvas, labels, and which settings are drawn in colour."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from pgjax.analysis.axis_limits import limits
from pgjax.analysis.summary import FEW_SEEDS, Row, few, ranked
from pgjax.dependencies import importing

BEST = 5  # settings in colour where more than 10 would make none of them readable


class NothingToDrawError(ValueError):
    """The dataset lacks the data that the figure shows."""


def text(name: str) -> str:
    """A name that matplotlib neither reads as mathematics nor leaves out of a legend."""
    return name.replace("$", r"\$").lstrip("_") or "?"


def canvas(title: str, width: float = 7, height: float = 4.2, panels: tuple[int, int] = (1, 1)) -> tuple[Any, Any]:
    """A figure and its axes [rows, columns]."""
    with importing("matplotlib"):
        from matplotlib.figure import Figure  # not pyplot: no global state, no display
        from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(wspace=0.05, hspace=0.05))
    if title:
        figure.suptitle(text(title), fontsize=11)
    axes = figure.subplots(*panels, squeeze=False)
    for one in axes.flat:
        one.grid(alpha=0.3)
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize=9)
    return figure, axes


def styles(found: Sequence[Row]) -> tuple[dict[int, dict[str, Any]], str]:
    """The style of each row, in the order of the legend, and a line for the legend about rows drawn without a name.

    Ten rows or fewer have a colour each. Of more rows, the best and the worst have one; the others are thin grey lines.
    """
    if len(found) <= 10:
        return {h: {"color": f"C{h}", "lw": 1.8, "label": text(row.name)} for h, row in enumerate(found)}, ""
    order = ranked(found)
    chosen = {h: {"color": f"C{k}", "lw": 1.8, "label": text(found[h].name)} for k, h in enumerate(order[:BEST])}
    if len(order) > BEST:
        chosen[order[-1]] = {"color": "k", "ls": "--", "lw": 1.4, "label": f"worst: {text(found[order[-1]].name)}"}
    faint = {"color": "0.6", "lw": 0.5, "alpha": faintness(len(found)), "zorder": 1}
    grey = {h: faint for h in range(len(found)) if h not in chosen}
    note = (
        f"the best {min(BEST, len(order))} and the worst of {len(found)} settings by IQM; grey: the other {len(grey)}"
    )
    return {**chosen, **grey}, note


def around(data: Sequence[Any], intervals: Sequence[tuple[Any, Any, int]], margin: float = 0.05) -> tuple[float, float]:
    """The ends of an axis that shows the data, and intervals (low, high, of so many seeds).

    Of a few seeds an interval may be tens of times as wide as the data: it is shown as far as half the data's width
    beyond them, and runs off the axis.
    """
    low, high = limits(*data, margin=0)
    beyond = (high - low) / 2
    ends = [
        np.clip(end, low - beyond, high + beyond) if seeds < FEW_SEEDS else end
        for *both, seeds in intervals
        for end in both
    ]
    return limits(*data, *ends, margin=margin)


def band_note(counts: Sequence[int]) -> str:
    """A note: the bands of a figure are intervals, and where they are of few seeds."""
    band = "band: 95 % interval over seeds" if max(counts, default=0) > 1 else ""
    return "\n".join(filter(None, (band, textwrap.fill(few(counts), 90))))


def faintness(lines: int) -> float:
    """The opacity at which a number of lines still show where they crowd."""
    return min(0.7, max(0.1, 60 / lines))


def legend(figure: Any, axes: Any, title: str) -> None:
    """Draw the legend within the axes where it is small, below them where it would hide the lines."""
    handles, names = axes.get_legend_handles_labels()
    if not handles:
        return
    options = {"fontsize": 8, "frameon": False, "title": title, "title_fontsize": 8, "alignment": "left"}
    longest = max(map(len, names))
    if len(names) <= 4 and longest <= 32 and "\n" not in title and len(title) < 60:
        axes.legend(handles, names, **options)
        return
    columns = max(1, min(3, int(figure.get_figwidth() * 13 / (longest + 8))))
    lines = -(-len(names) // columns) + 1 + title.count("\n")
    figure.set_figheight(figure.get_figheight() + 0.17 * lines)
    figure.legend(handles, names, loc="outside lower left", ncols=columns, **options)


def scale(value: float, _: Any = None) -> str:
    """1500000 as 1.5M; from 1e13 on as a power of ten."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size <= abs(value) < 1e13:
            return f"{value / size:g}{letter}"
    return f"{value:g}"

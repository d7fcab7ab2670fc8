"""Draws the final returns of settings: the forest plot and the performance profiles."""

import pathlib
import textwrap
from typing import Any

import numpy as np

from pgjax.analysis import drawing
from pgjax.analysis.axis_limits import limits
from pgjax.analysis.drawing import NothingToDrawError, text
from pgjax.analysis.summary import few, rows, scores, span
from pgjax.statistics import bootstrap, iqm, performance_profile, ranking


def forest(metrics: Any, path: str | pathlib.Path, title: str = "", best: int = 20, worst: int = 5) -> None:
    """Draw the IQM of the final returns with its 95 % interval, a line for each setting, the best on top; and its rank.

    Of more settings than best + worst, those between are left out, and the gap says how many. See
    `statistics.ranking` for the interval of a rank.

    Args:
      metrics: a dataset, label -> dataset, or rows; path: a file, by name or open for bytes.
    Raises:
      NothingToDrawError: where no setting has a final return.
    """
    found = rows(metrics)
    _, finals = scores(found)
    have = np.flatnonzero(~np.isnan(finals).all(axis=0))
    if not len(have):
        raise NothingToDrawError("no setting has a final return")
    rank, low_rank, high_rank = ranking(finals)
    order = have[np.argsort(rank[have], kind="stable")]
    gap = len(order) - best - worst
    shown = order if gap <= 0 else [*order[:best], None, *order[len(order) - worst :]]
    wrapped = {
        h: "\n".join(textwrap.wrap(found[h].name + found[h].lost, 58)) or "default" for h in shown if h is not None
    }
    lines = sum(1 + name.count("\n") for name in wrapped.values())
    width = 6 + 0.065 * max(len(part) for name in wrapped.values() for part in name.split("\n"))
    figure, ((axes,),) = drawing.canvas(title, width, 1.2 + 0.24 * max(3, lines + (gap > 0)))
    places, names, notes, intervals, y = [], [], [], [], 0.0
    for h in shown:
        half = 0.5 + 0.4 * (wrapped[h].count("\n") if h is not None else 0)
        y -= half
        places.append(y)
        names.append(text(wrapped[h]) if h is not None else f"({gap} settings between are not drawn)")
        notes.append("" if h is None else f"{rank[h]:g} ({span(low_rank[h], high_rank[h])})".removesuffix(" (-)"))
        if h is not None:
            good = found[h].good
            middle, (low, high) = iqm(good), bootstrap(good)
            intervals.append((low, high, len(good)))
            axes.plot(good, np.full(len(good), y), ".", color="0.7", ms=4, zorder=1)
            axes.plot([low, high], [y, y], color="C0", lw=2.2, solid_capstyle="butt")
            axes.plot(middle, y, "o", color="C0", ms=5)
        y -= half
    axes.set_yticks(places, names, fontsize=8)
    axes.set_ylim(y - 0.2, 0.2)
    axes.set_xlim(drawing.around([found[h].good for h in shown if h is not None], intervals))
    right = axes.secondary_yaxis("right")
    right.set_yticks(places, notes, fontsize=8)
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)
    axes.annotate("rank (95 % interval)", (1, 1), (6, 2), "axes fraction", textcoords="offset points", fontsize=8)
    without = f"; {len(found) - len(have)} settings without a final return" if len(have) < len(found) else ""
    said = f"final return: IQM over seeds and its 95 % interval; dots: seeds{without}"
    note = textwrap.fill(few([n for *_, n in intervals]), 80)
    axes.set_xlabel("\n".join(filter(None, (said, note))), fontsize=9)
    axes.xaxis.set_major_formatter(drawing.scale)
    figure.savefig(path, dpi=150)


def profiles(metrics: Any, path: str | pathlib.Path, title: str = "") -> None:
    """Draw the share of runs whose final return is above tau, by setting, with its exact pointwise 95 % band.

    The higher curve is the better; where it crosses one half is the median (Agarwal et al. 2021, sec. 4.2).

    Args:
      metrics: a dataset, label -> dataset, or rows; path: a file, by name or open for bytes.
    Raises:
      NothingToDrawError: where no setting has a final return.
    """
    every = rows(metrics)
    found = [row for row in every if np.isfinite(row.finals).any()]
    if not found:
        raise NothingToDrawError("no setting has a final return")
    thresholds = np.linspace(*limits(*(row.good for row in found), margin=0.03), 301)
    figure, ((axes,),) = drawing.canvas(title)
    styles, note = drawing.styles(found)
    counts = []
    for h, style in styles.items():
        good = found[h].good
        if "label" not in style:
            axes.step(thresholds, (good[:, None] > thresholds).mean(axis=0), where="post", **style)
            continue
        share, below, above = performance_profile(good, thresholds)
        counts.append(len(good))
        style["label"] = (style["label"] if found[h].name else f"{found[h].counted} runs") + found[h].lost
        axes.step(thresholds, share, where="post", **style)
        if len(good) > 1:
            axes.fill_between(thresholds, below, above, step="post", color=style["color"], alpha=0.18, lw=0)
    axes.set_xlabel("final return τ")
    axes.set_ylabel("share of runs above τ")
    axes.set_ylim(-0.02, 1.02)
    axes.xaxis.set_major_formatter(drawing.scale)
    without = f"{len(every) - len(found)} settings without a final return" if len(found) < len(every) else ""
    drawing.legend(figure, axes, "\n".join(filter(None, (note, without, drawing.band_note(counts)))))
    figure.savefig(path, dpi=150)

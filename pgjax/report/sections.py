"""Writes the section of the page about one run."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pgjax import analysis, statistics
from pgjax.analysis.axes import swept
from pgjax.analysis.summary import few, final_returns, span, spelled
from pgjax.report.html import code, facts, figure, folded, heading, paragraph, table
from pgjax.runs.run import Run

SHOWN = 20  # rows of a table before the rest is folded away


LOSSES = {"failed": "failed", "unscored": "no finite score", "stopped": "stopped"}


def section(run: Run, name: str = "") -> str:
    """All parts about one run, below its name where the page has several runs."""
    rows = analysis.rows(run.metrics)
    parts = [heading(f"{name}: {run.title}" if name else "The run", 2)]
    if run.interrupted:
        parts.append(paragraph(_interrupted(rows), "warning"))
    made = "The command:" if run.config.get("command") else "Called from Python as:"
    parts += [paragraph(made), code(run.call), facts(_facts(run, len(rows)))]
    parts += [_lost(rows, kind) for kind in ("failed", "unscored", "stopped")]
    parts += [heading("Final returns"), final_table(rows, run.summary.get("eval_episodes"))]
    parts.append(paragraph(apart(rows), "note") if len(rows) > 1 else "")
    draw = lambda f: lambda file: f(rows, file)  # noqa: E731
    parts.append(figure("Learning curves", draw(analysis.curve)))
    parts.append(figure("Settings by rank", draw(analysis.forest)))
    parts.append(figure("Performance profiles", draw(analysis.profiles)))
    axes = swept(rows)
    if axes:
        parts.append(figure("Sensitivity to each hyperparameter", draw(analysis.sensitivity)))
    if len(axes) > 1:
        parts.append(figure("Pairs of hyperparameters", draw(analysis.heat_maps)))
    if len(axes) > 1 and len(rows) >= 6:
        parts.append(figure("Parallel coordinates", draw(analysis.parallel)))
    return "".join(parts)


def final_table(rows: list[analysis.Row], episodes: int | None) -> str:
    """The table of final returns, sorted by rank, with a column for each hyperparameter."""
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    head = ["rank", "95 %", *(names or ["setting"]), "IQM", "95 %", "mean", "median", "std", "greedy IQM", "seeds"]
    losses = [kind for kind in LOSSES if any(getattr(row, kind).any() for row in rows)]
    texts = {name: spelled([row.values[name] for row in rows if name in row.values]) for name in names}
    rank, low_rank, high_rank = statistics.ranking(analysis.scores(rows)[1])
    lines = []
    for h in np.argsort(rank, kind="stable"):
        row, good = rows[h], rows[h].good.astype(float)
        values = [texts[name].get(row.values.get(name), "") for name in names] or [row.name or "default"]
        counts = [int(getattr(row, kind).sum()) for kind in losses]
        if not len(good):
            lines.append(["-", "-", *values, *["-"] * 6, row.counted, *counts])
            continue
        low, high = statistics.bootstrap(good)
        numbers = [number(x) for x in (good.mean(), np.median(good), good.std(ddof=1) if len(good) > 1 else np.nan)]
        place = [f"{rank[h]:g}", span(low_rank[h], high_rank[h])]
        numbers.append(number(statistics.naniqm(final_returns(rows[h].chosen, "greedy"))))
        middle = [number(statistics.iqm(good)), interval(low, high)]
        lines.append([*place, *values, *middle, *numbers, row.counted, *counts])
    said = (
        f"Each seed's final return is the mean of {episodes} whole episodes with sampled actions; greedy ones apart. "
        if episodes
        else ""
    )
    said += "IQM is the mean of the middle half of the seeds; intervals are 95 %, by bootstrap over seeds and moved "
    said += "outwards for how few they are, those of ranks by resampling seeds for all settings together. Rank 1 is "
    said += "the best; equal settings share a rank."
    text, note = range(2, 2 + max(1, len(names))), few([len(row.good) for row in rows])
    out = paragraph(said, "note") + (paragraph(note, "warning") if note else "")
    head += [LOSSES[kind] for kind in losses]
    out += table(head, lines[:SHOWN], text)
    rest = lines[SHOWN:]
    return out + (folded(f"the other {len(rest)} settings", table(head, rest, text)) if rest else "")


def apart(rows: Sequence[analysis.Row]) -> str:
    """A sentence: the number of seeds needed to distinguish the two best rows."""
    best = [rows[h] for h in analysis.ranked(rows)[:2]]
    if len(best) < 2 or not all(np.isfinite(row.finals).any() for row in best):
        return "Fewer than two settings have a final return: there are no two to tell apart."
    x, y = analysis.scores(best)[1].T
    names = " and ".join(row.name or "default" for row in best)
    try:
        seeds, design = statistics.seeds_needed(x, y)
    except ValueError:
        return f"How many seeds distinguish the best two ({names}) can be estimated from 2 seeds or more of each."
    if not np.isfinite(seeds):
        return f"The best two ({names}) have equal means: no number of seeds tells them apart."
    how = "the same seeds for both (paired)" if design == "paired" else "independent seeds (unpaired)"
    have, apart_by = min((~np.isnan(z)).sum() for z in (x, y)), number(abs(np.nanmean(x) - np.nanmean(y)))
    return (
        f"To tell the means of the best two apart ({names}), each needs about {seeds:,.0f} seeds, with {how}: 80 % "
        f"power, 5 % level, the observed difference of {apart_by} and variances taken as true. They have {have}."
    )


def number(value: Any) -> str:
    """A number in a table; '-' for NaN."""
    value = float(value)
    return "-" if np.isnan(value) else f"{value:.1f}" if 10 <= abs(value) < 1e6 else f"{value:.3g}"


def interval(low: Any, high: Any) -> str:
    """An interval in a table; '-' for NaN."""
    return "-" if np.isnan(low) else f"{number(low)} to {number(high)}"


def _interrupted(rows: Sequence[analysis.Row]) -> str:
    said = "Interrupted: the run was stopped before its end, and this page shows its results up to then."
    without = sum(not np.isfinite(row.finals).any() for row in rows)
    return said + (f" {without} of {len(rows)} settings have no final return." if without else "")


def _facts(run: Run, settings: int) -> dict[str, object]:
    s, config = run.summary, run.config
    device = config["device"]
    times = {"compile": "compile_seconds", "train": "train_seconds", "evaluate": "evaluate_seconds"}
    seconds = ", ".join(f"{name} {s[key]:.1f} s" for name, key in times.items() if s.get(key) is not None)
    speed = f"; {s['env_steps_per_second']:,.0f} per second" if s.get("env_steps_per_second") else ""
    seeds = len(run.metrics["seed"])
    return {
        "folder": run.path,
        "lanes": f"{settings * seeds}: {_many(settings, 'setting')}, {_many(seeds, 'seed')}",
        "environment steps": f"{s.get('env_steps', 0):,.0f} in all lanes{speed}",
        "times": seconds,
        "device": f"{device['count']} x {device['kind']} ({device['platform']})",
        "versions": ", ".join(f"{name} {version}" for name, version in config["versions"].items()),
    }


def _lost(rows: Sequence[analysis.Row], kind: str) -> str:
    """A list of the lanes that failed, were not scored or were stopped."""
    found = [(row.name or "default", row.seeds[getattr(row, kind)]) for row in rows if getattr(row, kind).any()]
    if not found:
        return paragraph("No lane failed.", "note") if kind == "failed" else ""
    lanes = _many(sum(len(seeds) for _, seeds in found), "lane")
    why = {
        "failed": f"{lanes} failed: a number was not finite. The statistics are over the others",
        "unscored": f"{lanes} without a finite score: trained to the end, but the evaluation's returns are not all "
        "finite. The statistics are over the others",
        "stopped": f"{lanes} stopped early by the halving rule: no failure, but without a final return",
    }[kind]
    count = len(rows[0].seeds)
    lines = [[name, "all" if len(s) == count else ", ".join(map(str, s))] for name, s in found]
    listed = table(["setting", "seeds"], lines, text=(0, 1))
    if kind != "stopped" and len(found) <= SHOWN:
        return paragraph(f"{why}:", "warning") + listed
    return paragraph(f"{why}.", "note" if kind == "stopped" else "warning") + folded("by name", listed)


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"

"""A run folder in; what there is to say of it, line by line, out."""

import pathlib
import shlex
from typing import Any

from pgjax import chunks, report, runs
from pgjax.checkpoints import Folder


def lines(path: pathlib.Path) -> list[Any]:
    """What rich prints: command, progress, settings and seeds, final returns, lanes that failed."""
    config, plan = runs.read(path)
    schedule, summary = chunks.read(path / "chunks.json"), runs.summary(path)
    out: list[Any] = [f"{config['algorithm']} on {config['env']}: {path}"]
    if config["command"]:
        out.append(f"made by: {shlex.join(config['command'])}")
    axes = plan.axes if plan.points is None else {name: [p[name] for p in plan.points] for name in plan.points[0]}
    for name, values in axes.items():
        shown = ", ".join(map(_text, values[:8])) + (f", ... ({len(values)} in all)" if len(values) > 8 else "")
        out.append(f"{name}: {shown}")
    out.append(f"seeds: {plan.seeds[0]} to {plan.seeds[-1]} ({len(plan.seeds)})")
    if schedule is None:
        return [*out, f"nothing trained yet; `pgjax resume {path}` begins"]
    archive = Folder(path / "chunks")
    for g, group in enumerate(plan.groups):
        mine = [(i, c) for i, c in enumerate(schedule.chunks) if c.group == g]
        made = sum((max([c.first, *archive.updates(i)]) - c.first) * len(c.lanes) for i, c in mine)
        wanted = sum((c.last - c.first) * len(c.lanes) for _, c in mine)
        name = "" if len(plan.groups) == 1 else f"group {g}: "
        out.append(
            f"{name}{made:,} of {wanted:,} updates of all lanes kept, {len(group.settings)} settings, "
            f"{schedule.widths[g]} lanes at once, {len(mine)} chunks"
        )
    if not summary or summary["interrupted"]:
        return [*out, f"not ended; `pgjax resume {path}` goes on"]
    return [*out, *report.lost(summary), report.table(summary)]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

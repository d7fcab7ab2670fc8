"""The commands that read run folders: `show`, `render` and `report`."""

import pathlib
import shlex
from typing import Any

from pgjax import analysis
from pgjax import report as report_module
from pgjax.cli import watch
from pgjax.cli.common import Action, items, labels, make_console
from pgjax.cli.options_reading import Render, Report, Show
from pgjax.engine import files
from pgjax.render import video
from pgjax.runs import load
from pgjax.runs.overview import Overview, overview
from pgjax.runs.run import Run
from pgjax.settling import question, settlement, showing
from pgjax.sweeps import values


def render(options: Render, words: list[str]) -> Action:
    """Checks the options of `pgjax render`; the function returned carries it out."""
    path, seed = video.checked_path(options.out, options.fps), values.seed_number(options.seed)
    episodes = values.whole("episodes", options.episodes, most=video.EPISODES)
    run, update = load.load(options.folder), values.whole("update", options.update, least=0)
    env, policy, params = run.lane(update=update, **labels(items(options.lane), run))

    def act():
        made = video.write(
            path,
            env,
            policy,
            params,
            episodes=episodes,
            greedy=options.greedy,
            seed=seed,
            fps=options.fps,
            title=run.config["env"],
        )
        said = f"{made.path}: {made.frames} frames, return {', '.join(f'{x:.5g}' for x in made.returns)}"
        print(*filter(None, [made.note]), said, sep="\n")
        return 0

    return act


def show(options: Show, words: list[str]) -> Action:
    """Checks the options of `pgjax show`; the function returned carries it out."""
    folder = values.place("path", options.folder)
    if question.there(folder):
        return _settlement(folder, options.watch)
    run = load.planned(folder)
    if options.watch:
        return lambda: watch.watch(lambda: look(run))
    lines, _ = look(run)

    def act():
        watch.say(make_console(), lines)
        return 0

    return act


def _settlement(folder: pathlib.Path, watched: bool) -> Action:
    if watched:
        raise ValueError(f"--watch shows one run: pgjax show {folder / 'a'} --watch, or {folder / 'b'}")
    lines = showing.lines(settlement.settlement(folder))

    def act():
        watch.say(make_console(), lines)
        return 0

    return act


def report(options: Report, words: list[str]) -> Action:
    """Checks the options of `pgjax report`; the function returned carries it out."""
    return lambda: print(f"written to {report_module.write(options.folders, options.out)}") or 0


def look(run: Run) -> tuple[list[Any], Overview | None]:
    """The lines of `pgjax show`: command, settings, seeds, progress, who works, final returns, lanes that failed.

    Args:
      run: as it was read from its folder before.

    Returns:
      the lines, and what happens in the folder; None where the run hasn't begun.
    """
    path, plan, command = run.folder, run.plan, run.config["command"]
    out: list[Any] = [f"{run.title}: {path}"]
    if command:
        out.append(f"made by: {shlex.join(command)}")
    axes = plan.axes if plan.points is None else {name: [p[name] for p in plan.points] for name in plan.points[0]}
    for name, found in axes.items():
        shown = ", ".join(map(_text, found[:8])) + (f", ... ({len(found)} in all)" if len(found) > 8 else "")
        out.append(f"{name}: {shown}")
    out.append(f"seeds: {plan.seeds[0]} to {plan.seeds[-1]} ({len(plan.seeds)})")
    if not files.exists(path / "chunks.json"):
        return [*out, f"nothing trained yet; `pgjax resume {path}` begins"], None
    seen = overview(run)
    run = seen.run
    for g, group in enumerate(run.plan.groups):
        mine = [(i, c) for i, c in enumerate(run.schedule.chunks) if c.group == g]
        made = sum((max(c.first, seen.saved.get(i, 0)) - c.first) * len(c.lanes) for i, c in mine)
        wanted = sum((c.last - c.first) * len(c.lanes) for _, c in mine)
        name = "" if len(plan.groups) == 1 else f"group {g}: "
        out.append(
            f"{name}{made:,} of {wanted:,} updates of all lanes kept, {len(group.settings)} settings, "
            f"{run.schedule.widths[g]} lanes at once, {len(mine)} chunks"
        )
    if not seen.complete:
        out += watch.lines(seen)
        return out if seen.workers else [*out, f"not ended; `pgjax resume {path}` goes on"], seen
    return [*out, *watch.taken(seen), *analysis.lost(run.summary), analysis.table(run.summary)], seen


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

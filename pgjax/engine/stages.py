"""Schedules the stages of a run (the first, the rungs of halving, extensions) and trains one stage."""

import pathlib
import threading

from pgjax.engine import checkpoints, chunks, halving, processes
from pgjax.engine.execution import Execution
from pgjax.engine.progress import Progress
from pgjax.engine.trainer import Engine
from pgjax.sweeps.plan import Plan
from pgjax.sweeps.values import bounded, checked_updates

# Up to this many environments in all lanes two cores are faster than a GPU (with 4: 3e5 steps/s, and 1e5 on an H200).
SLOW = 16


def first_schedule(
    chosen: Plan, engine: Engine, execution: Execution, path: pathlib.Path | None, bar: Progress
) -> chunks.Schedule:
    """Find the widths by compiling, and write down the first chunks, so that a resumed run has the same."""

    def make():
        widths, segments, first = [], [], []
        total = sum(len(group.settings) for group in chosen.groups)
        for g, group in enumerate(chosen.groups):
            lanes = [(h, seed) for h in range(len(group.settings)) for seed in chosen.seeds]
            length = execution.segment or chunks.segment(group.updates)
            last = halving.rungs(group, total, execution.halving)[0] if execution.halving else group.updates
            bar.say(f"compiling for {len(lanes)} lanes")
            if execution.width is None:
                widths.append(engine.width(g, -(-len(lanes) // processes.count()), length, execution.memory))
            else:
                widths.append(execution.width)
                engine.compile(g, execution.width, length)
            segments.append(length)
            first += chunks.split(g, 0, 0, last, lanes, widths[g])
        bar.say(f"compiled in {engine.clock['compile_seconds']:.1f} s; {', '.join(map(str, widths))} lanes at once")
        largest = max(w * group.config.num_envs for w, group in zip(widths, chosen.groups, strict=True))
        if engine.devices[0].platform == "gpu" and largest <= SLOW:
            bar.say(f"{largest} environments at once leave a GPU idle; JAX_PLATFORMS=cpu is likely faster")
        made = chunks.Schedule(widths, segments, chosen.seeds, [group.updates for group in chosen.groups], first)
        if path is not None:
            chunks.write(path / "chunks.json", made)
        return made

    found = processes.once("scheduling", make)
    if found is None and path is not None:  # another process made it
        found = chunks.read(path / "chunks.json")
    assert found is not None
    return found


def next_rung(
    chosen: Plan, archive: checkpoints.Archive, schedule: chunks.Schedule, eta: int, path: pathlib.Path | None
) -> chunks.Schedule:
    """Add the next rung, if there is one, to the schedule, and write it down."""
    found = halving.decision(chosen, archive, schedule, schedule.chunks[-1].stage, eta)
    longer = schedule._replace(chunks=schedule.chunks + halving.following(chosen, schedule, found, eta))
    if path is not None:
        processes.once("halving", lambda: chunks.write(path / "chunks.json", longer))
    return longer


def run_stage(
    chosen: Plan,
    engine: Engine,
    schedule: chunks.Schedule,
    stage: int,
    snapshots: int,
    bar: Progress,
    stop: threading.Event,
) -> None:
    """Train this process's share of the chunks of one stage."""
    for g, group in enumerate(chosen.groups):
        all_hosts = [i for i, c in enumerate(schedule.chunks) if (c.group, c.stage) == (g, stage)]
        mine = all_hosts[processes.index() :: processes.count()]
        if mine and not stop.is_set():
            parts = [schedule.chunks[i] for i in mine]
            bar.start(g, sum((c.last - c.first) * len(c.lanes) for c in parts), sum(len(c.lanes) for c in parts))
            keep = chunks.points(group.updates, schedule.segments[g], snapshots) if snapshots else set()
            engine.train(schedule, mine, keep, bar, stop)


def extended(
    plan: Plan, schedule: chunks.Schedule, steps: int | None, updates: int | None, seeds: int | None
) -> chunks.Schedule:
    """The schedule with one more stage: new seeds train from the start, the others from their last update."""
    if steps is updates is seeds is None:
        raise ValueError("give steps, updates or seeds")
    if steps is not None and updates is not None:
        raise ValueError("give steps or updates, not both")
    if seeds is not None and seeds < len(plan.seeds):
        raise ValueError(f"seeds={seeds} is less than the {len(plan.seeds)} that there are")
    settings = sum(len(group.settings) for group in plan.groups)
    bounded(f"seeds={seeds} of {settings} settings", (seeds or 0) * settings)
    first, count = max(plan.seeds) + 1, (seeds or len(plan.seeds)) - len(plan.seeds)
    if first + count > 2**32:
        raise ValueError(f"seeds must lie in [0, 2**32), got {first + count - 1} as the last of seeds={seeds}")
    added = list(range(first, first + count))
    stage, more, ends = schedule.chunks[-1].stage + 1, [], []
    for g, group in enumerate(plan.groups):
        wanted = updates or (-(-steps // group.steps_per_update) if steps else group.updates)
        if wanted < group.updates:
            raise ValueError(f"updates={wanted} is less than the {group.updates} that there are")
        length, width = schedule.segments[g], schedule.widths[g]
        ends.append(checked_updates(-(-wanted // length) * length))
        places = range(len(group.settings))
        if ends[g] > group.updates:
            old = [(h, seed) for h in places for seed in plan.seeds]
            more += chunks.split(g, stage, group.updates, ends[g], old, width)
        more += chunks.split(g, stage, 0, ends[g], [(h, seed) for h in places for seed in added], width)
    if not more:
        raise ValueError("the run has all that already: nothing to extend")
    asked = {"steps": steps, "updates": updates, "seeds": seeds}
    return schedule._replace(
        seeds=[*plan.seeds, *added],
        updates=ends,
        chunks=schedule.chunks + more,
        extended=[*schedule.extended, {name: x for name, x in asked.items() if x is not None}],
    )

"""Schedules the chunks of a run: the first, the rungs of halving, and extensions."""

import math
import pathlib

from pgjax.engine import checkpoints, chunks, halving, machine, memory
from pgjax.engine.execution import Execution
from pgjax.engine.leases import planning
from pgjax.engine.progress import Progress
from pgjax.engine.trainer import Engine
from pgjax.sweeps.plan import Plan
from pgjax.sweeps.values import bounded, checked_updates

# Up to this many environments in all lanes two cores are faster than a GPU (with 4: 3e5 steps/s, and 1e5 on an H200).
SLOW = 16
TOGETHER = 128  # environments stepped in Python that a chunk has, if there are so many: each step costs two calls


def first_schedule(
    chosen: Plan, engine: Engine, execution: Execution, path: pathlib.Path | None, bar: Progress
) -> chunks.Schedule:
    """The schedule of the run's folder; where there is none, one is made and written, by one process for all.

    Widths, chunks and their order follow from the plan, the memory and the kind of device alone.
    """
    with planning(path):
        found = None if path is None else chunks.read(path / "chunks.json")
        if found is None:
            found = _made(chosen, engine, execution, bar)
            if path is not None:
                chunks.write(path / "chunks.json", found)
        return found


def _made(chosen: Plan, engine: Engine, execution: Execution, bar: Progress) -> chunks.Schedule:
    widths, segments, first, needed = [], [], [], []
    total = sum(len(group.settings) for group in chosen.groups)
    for g, group in enumerate(chosen.groups):
        lanes = [(h, seed) for h in range(len(group.settings)) for seed in chosen.seeds]
        length = execution.segment or chunks.segment(group.updates)
        last = halving.rungs(group, total, execution.halving)[0] if execution.halving else group.updates
        bar.say(f"compiling for {len(lanes)} lanes")
        widths.append(execution.width or fitting(engine, g, len(lanes), length, execution.memory))
        segments.append(length)
        first += chunks.split(g, 0, 0, last, lanes, widths[g])
        needed.append(engine.compile(g, widths[g], length).bytes)
    bar.say(f"compiled in {engine.clock.spent['compile_seconds']:.1f} s; {', '.join(map(str, widths))} lanes at once")
    largest = max(w * group.config.num_envs for w, group in zip(widths, chosen.groups, strict=True))
    if engine.devices[0].platform == "gpu" and largest <= SLOW:
        bar.say(f"{largest} environments at once leave a GPU idle; JAX_PLATFORMS=cpu is likely faster")
    if (devices := len(engine.teams)) > len(first) and engine.devices[0].platform != "cpu":
        most = max(len(group.settings) for group in chosen.groups) * len(chosen.seeds)
        bar.say(f"{len(first)} chunks for {devices} devices; --width {math.ceil(most / devices)} gives each its own")
    updates = [group.updates for group in chosen.groups]
    return chunks.Schedule(widths, segments, chosen.seeds, updates, first, bytes=needed, machine=machine.signature())


def fitting(engine: Engine, g: int, lanes: int, length: int, budget: float | None) -> int:
    """The number of lanes of a chunk that fits the memory and is worth it, found by compiling.

    Raises:
      ValueError: where not even one lane fits.
    """
    group = engine.plan.groups[g]
    share = memory.share(lanes, engine.devices)
    if group.env.host:  # of which a process trains one chunk at a time
        share = max(share, min(lanes, -(-TOGETHER // group.config.num_envs)))
    width = share
    together, alone = memory.room(budget, engine.devices)
    while True:
        made = engine.compile(g, width, length)
        # By what factor the program is too large, for the memory or for the caches.
        excess = max(made.bytes / max(together, 1.0), (made.bytes - made.idle) / memory.worth(engine.devices))
        if excess <= 1 or (width == 1 and made.bytes <= alone):
            return width
        if width == 1:
            raise ValueError(
                f"memory: one lane needs {made.bytes / 1e6:.2f} MB, and besides the memory that the process holds "
                f"{max(alone, 0.0) / 1e6:.2f} MB are left; give more memory, or fewer environments or steps"
            )
        # Memory grows in proportion to the lanes; a little less, so that the next program fits.
        most = max(1, min(width - 1, int(0.95 * width / excess)))
        # With as many chunks as that takes, all of them are about equally full.
        width = math.ceil(share / math.ceil(share / most))


def next_rung(
    chosen: Plan, archive: checkpoints.Archive, schedule: chunks.Schedule, eta: int | None, path: pathlib.Path | None
) -> chunks.Schedule:
    """The schedule with the next rung, if there is one, once all chunks are done; one process writes it for all."""
    with planning(path):
        found = (None if path is None else chunks.read(path / "chunks.json")) or schedule
        if eta is None or len(found.chunks) > len(schedule.chunks):
            return found
        decision = halving.decision(chosen, archive, schedule, schedule.chunks[-1].stage, eta)
        longer = schedule._replace(chunks=schedule.chunks + halving.following(chosen, schedule, decision, eta))
        if path is not None:
            chunks.write(path / "chunks.json", longer)
        return longer


def cost(chosen: Plan, schedule: chunks.Schedule, chunk: chunks.Chunk) -> float:
    """How long a chunk takes, as environment steps of its lanes."""
    steps = chosen.groups[chunk.group].steps_per_update
    return float((chunk.last - chunk.first) * steps * schedule.widths[chunk.group])


def kept_updates(schedule: chunks.Schedule, group: int, snapshots: int) -> set[int]:
    """The updates of a group's chunks whose checkpoints stay."""
    if not snapshots:
        return set()
    return chunks.points(schedule.updates[group], schedule.segments[group], snapshots)


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

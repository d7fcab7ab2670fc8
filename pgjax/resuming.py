"""A run folder in; the run gone on with, made longer or given more seeds, or one lane of it trained again, out."""

import pathlib
import sys
from typing import Any

from pgjax import chunks, memory, results, runs
from pgjax.driver import Prepared, finish
from pgjax.execution import Execution, logger
from pgjax.parsing import checked_updates, place, whole
from pgjax.ranges import bounded
from pgjax.results import Result
from pgjax.settings import Plan


def resume(path: str | pathlib.Path, *, progress: bool = True, **options: Any) -> Result:
    """Go on with a run that was stopped or killed; the end is that of a run that never was, bit for bit.

    A stream of worlds on the host begins new episodes instead: their state is not kept.

    Args:
      path: the run folder.
      devices: how many of this process's devices; other than before is all the same, but for shard="envs". By
        default as many as the run asked for, as far as there are.
      log: "tensorboard" or "wandb", to log there from here on; "none", to log no more; by default as the run did.
      edited: go on though the source of the run's own loss, environment or other function has changed since.
      algorithm, env, loss, policy: see `runs.load`.
    """
    return finish(prepare(path, **options), progress)


def prepare(
    path: str | pathlib.Path,
    *,
    devices: int | None = None,
    log: str | None = None,
    edited: bool = False,
    **objects: Any,
) -> Prepared:
    """The run of a folder, as it was prepared and has been scheduled since."""
    config, made = runs.read(path, edited, **objects)
    if (before := _rounds(config)) != (now := _rounds(results.machine())):
        print(f"pgjax: the run was begun with {before}, and rounds otherwise with {now}", file=sys.stderr)
    try:
        execution, wanted = Execution(**config["execution"]), whole("devices", devices)
    except TypeError as error:
        raise ValueError(f"path: 'execution' in {str(path)!r} can't be read: another pgjax wrote it") from error
    if execution.shard == "envs":
        if wanted not in (None, execution.devices):
            raise ValueError(
                f"devices={wanted}: the run's environments are split over {execution.devices}; leave it out"
            )
        wanted = execution.devices
    elif wanted is None and execution.devices is not None:
        wanted = min(execution.devices, len(memory.devices(None)))
    execution = execution._replace(devices=wanted)
    if log is not None:
        execution = execution._replace(log=None if log == "none" else log)
    return Prepared(made, config, pathlib.Path(path), execution, logger(execution, path))


def _rounds(machine: dict[str, Any]) -> str:
    """What the last bit of a run hangs on, besides its width."""
    return f"jaxlib {machine.get('versions', {}).get('jaxlib')} on {machine.get('device', {}).get('kind')}"


def extend(path: str | pathlib.Path, *, progress: bool = True, **options: Any) -> Result:
    """Make a finished run longer, or give it more seeds; what was trained isn't trained again.

    Args:
      steps, updates, seeds: how many there shall be in all, of each lane, rounded up to whole segments;
        seeds count on from the last.
      devices, log, edited, algorithm, env, loss, policy: see `resume`.
    """
    return finish(prepare_extension(path, **options), progress)


def prepare_extension(
    path: str | pathlib.Path, *, steps: Any = None, updates: Any = None, seeds: Any = None, **options: Any
) -> Prepared:
    """Check an extension and write it down; `execute` then does it, or `resume` where that was cut short."""
    before = prepare(path, **options)
    schedule = chunks.read(before.path / "chunks.json")
    if schedule is None or runs.summary(before.path).get("interrupted", True):
        raise ValueError(f"path: the run in {str(path)!r} hasn't ended; pgjax resume {path} first")
    if before.execution.halving:
        raise ValueError(f"path: the run in {str(path)!r} gave settings up by halving; it can't be extended")
    longer = extended(before.plan, schedule, whole("steps", steps), whole("updates", updates), whole("seeds", seeds))

    # Killed between the two, the run is as it was, only to be summed up again.
    (before.path / "summary.json").unlink()
    chunks.write(before.path / "chunks.json", longer)
    return before._replace(plan=runs.scheduled(before.plan, longer))


def extended(
    plan: Plan, schedule: chunks.Schedule, steps: int | None, updates: int | None, seeds: int | None
) -> chunks.Schedule:
    """The schedule with a stage more: new seeds from the start, the others from where they are."""
    if steps is updates is seeds is None:
        raise ValueError("say what there shall be more of: steps, updates or seeds")
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


def replay(
    path: str | pathlib.Path,
    *,
    seed: int,
    out: str | pathlib.Path | None = None,
    progress: bool = True,
    edited: bool = False,
    **labels: Any,
) -> Result:
    """Train one lane of a run again, alone and at the run's width: the same curve, bit for bit.

    But for a stream of worlds on the host that was stopped in between: their state is not kept.

    Args:
      seed, labels: which lane, as in `runs.Run.lane`.
      out: a folder for it, a run folder of its own.
      edited: see `resume`.
    """
    return finish(prepare_replay(path, seed=seed, out=out, edited=edited, **labels), progress)


def prepare_replay(
    path: str | pathlib.Path, *, seed: int, out: str | pathlib.Path | None = None, edited: bool = False, **labels: Any
) -> Prepared:
    """The run of one lane, its width and its last update those of the lane that it repeats."""
    before = prepare(path, log="none", edited=edited)
    schedule = chunks.read(before.path / "chunks.json")
    if schedule is None:
        raise ValueError(f"path: the run in {str(path)!r} hasn't begun; pgjax resume {path} first")
    g, h = results.find(before.plan, labels, seed)
    last = max(schedule.chunks[i].last for i, _ in chunks.history(schedule, g, (h, seed)))
    group = before.plan.groups[g]
    setting = group.settings[h]
    if group.env.host and group.config.rollout == "unroll" and len(chunks.history(schedule, g, (h, seed))) > 1:
        raise ValueError("a stream of worlds on the host began anew where the run was extended, and can't be replayed")
    axes = {full: [setting[label]] for full, label in zip(before.config["axes"], before.plan.axes, strict=False)}
    points = before.config["points"] and [before.config["points"][setting["setting"]]]
    shared = before.execution.shard == "envs"
    execution = Execution(
        devices=before.execution.devices if shared else 1,
        shard=before.execution.shard,
        width=schedule.widths[g],
        segment=schedule.segments[g],
    )
    config = {
        **before.config,
        "seeds": [seed],
        "axes": axes,
        "points": points,
        "groups": [{**before.config["groups"][g], "settings": [setting], "updates": last}],
        "execution": execution._asdict(),
        "replay": {"of": str(before.path.absolute()), "seed": seed, **labels},
    }
    alone = runs.planned(before.path, config, {})
    folder, made = None if out is None else place("out", out), ()
    if folder is not None:
        made = results.create(folder, config)
    return Prepared(alone, config, folder, execution, made=made)

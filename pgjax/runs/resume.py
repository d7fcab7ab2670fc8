"""A run folder in; the run gone on with, made longer or given more seeds, or one lane of it trained again, out."""

import pathlib
import sys
from typing import Any

from pgjax.engine import chunks, processes
from pgjax.engine.execution import Execution, logger
from pgjax.engine.stages import extended
from pgjax.runs import folder as runs_folder
from pgjax.runs import load, record, result
from pgjax.runs.result import Result
from pgjax.runs.start import Prepared, finish
from pgjax.sweeps.values import place, whole


def resume(path: str | pathlib.Path, *, progress: bool = True, **options: Any) -> Result:
    """Go on with a run that was stopped or killed; the end is that of a run that never was, bit for bit.

    A stream of worlds on the host begins new episodes instead: their state is not kept.

    Args:
      path: the run folder.
      devices: how many of this process's devices; other than before is all the same, but for shard="envs". By
        default as many as the run asked for, as far as there are.
      log: "tensorboard" or "wandb", to log there from here on; "none", to log no more; by default as the run did.
      edited: go on though the source of the run's own loss, environment or other function has changed since.
      algorithm, env, loss, policy: see `pgjax.load`.
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
    config, made = load.read(path, edited, **objects)
    if (before := _rounds(config)) != (now := _rounds(record.machine())):
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
        wanted = min(execution.devices, len(processes.devices(None)))
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
    if schedule is None or load.summary(before.path).get("interrupted", True):
        raise ValueError(f"path: the run in {str(path)!r} hasn't ended; pgjax resume {path} first")
    if before.execution.halving:
        raise ValueError(f"path: the run in {str(path)!r} gave settings up by halving; it can't be extended")
    longer = extended(before.plan, schedule, whole("steps", steps), whole("updates", updates), whole("seeds", seeds))

    # Killed between the two, the run is as it was, only to be summed up again.
    (before.path / "summary.json").unlink()
    chunks.write(before.path / "chunks.json", longer)
    return before._replace(plan=load.scheduled(before.plan, longer))


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
      seed, labels: which lane, as in `Run.lane` of `pgjax.load`.
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
    g, h = result.find(before.plan, labels, seed)
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
    alone = load.planned(before.path, config, {})
    folder, made = None if out is None else place("out", out), ()
    if folder is not None:
        made = runs_folder.create(folder, config)
    return Prepared(alone, config, folder, execution, made=made)

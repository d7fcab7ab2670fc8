"""Makes the jobs of runs that have a folder: to go on with one, to make it longer, to train one of its lanes again."""

import pathlib
import sys
from typing import Any

from pgjax.engine import checkpoints, chunks, files, machine, processes
from pgjax.engine.execution import Execution, logger
from pgjax.engine.leases import planning
from pgjax.engine.stages import extended
from pgjax.runs import folder, load, rebuild, record
from pgjax.runs.execute import Job
from pgjax.runs.run import Run
from pgjax.sweeps.user_code import OBJECTS
from pgjax.sweeps.values import place, whole


def resumed_job(
    path: str | pathlib.Path,
    *,
    devices: Any = None,
    log: str | None = None,
    edited: bool = False,
    strict: bool = False,
    **objects: Any,
) -> Job:
    """The run of a folder, with the plan and the execution that it was started with. See `resume`.

    Args:
      strict: refuse, instead of saying so, to go on where numbers differ from those of the run: see `machine`.
    """
    return _job(load.planned(path, edited, **objects), devices, log, strict)


def _job(run: Run, devices: Any = None, log: str | None = None, strict: bool = False) -> Job:
    path, config = run.folder, run.config
    found = run.begun and machine.difference(run.schedule.machine, machine.signature())
    if found and not strict:
        print(f"pgjax: the run rounds otherwise from here on: {found}", file=sys.stderr)
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
    return Job(run.plan, config, path, execution, logger(execution, path), given=run.given, strict=strict)


def extended_job(
    path: str | pathlib.Path,
    *,
    steps: Any = None,
    updates: Any = None,
    seeds: Any = None,
    devices: Any = None,
    log: str | None = None,
    edited: bool = False,
    **objects: Any,
) -> Job:
    """Check an extension and write it down; `execute` then trains it, or `resume` where that was cut short."""
    run = load.planned(path, edited, **objects)
    job = _job(run, devices, log)
    if run.interrupted:
        raise ValueError(f"path: the run in {str(path)!r} hasn't ended; pgjax resume {path} first")
    if job.execution.halving:
        raise ValueError(f"path: the run in {str(path)!r} gave settings up by halving; it can't be extended")
    longer = extended(run.plan, run.schedule, whole("steps", steps), whole("updates", updates), whole("seeds", seeds))
    for number, chunk in enumerate(run.schedule.chunks):  # a state that doesn't fit is found before anything is written
        shapes = checkpoints.kept_shapes(run.plan.groups[chunk.group], run.schedule.widths[chunk.group])
        run.archive.load(number, shapes)

    # If the process is killed between these two writes, the run is unchanged; only summary.json must be written again.
    with planning(run.folder):
        files.remove(run.folder / "summary.json")
        chunks.write(run.folder / "chunks.json", longer)
    return job._replace(plan=rebuild.scheduled(run.plan, longer))


def replayed_job(
    path: str | pathlib.Path, *, seed: int, out: str | pathlib.Path | None = None, edited: bool = False, **labels: Any
) -> Job:
    """A new run of one lane, with the width and the last update of the lane that it repeats. See `replay`."""
    axes = {full.rpartition(".")[2] for full in Run.open(path).config.get("axes", ())}
    given = {name: labels.pop(name) for name in OBJECTS if name in labels and name not in axes}
    run = load.planned(path, edited, **given)
    before = _job(run, log="none").execution
    g, h, history = run.locate(seed, labels)
    group, setting = run.plan.groups[g], run.plan.groups[g].settings[h]
    if group.env.host and group.config.rollout == "unroll" and len(history) > 1:
        raise ValueError(
            "a stream of environments stepped in Python began anew where the run was extended, and can't be replayed"
        )
    shared = before.shard == "envs"
    execution = Execution(
        devices=before.devices if shared else 1,
        shard=before.shard,
        width=run.schedule.widths[g],
        segment=run.schedule.segments[g],
    )
    last = max(run.schedule.chunks[i].last for i, _ in history)
    config = {
        **run.config,
        "seeds": [seed],
        "axes": {full: [setting[label]] for full, label in zip(run.config["axes"], run.axes, strict=False)},
        "points": run.config["points"] and [run.config["points"][setting["setting"]]],
        "groups": [{**run.config["groups"][g], "settings": [setting], "updates": last}],
        "objects": {
            name: record.entry(run.objects[name], entry.get("spec")) for name, entry in run.config["objects"].items()
        },
        "execution": execution._asdict(),
        "replay": {"of": str(run.folder.absolute()), "seed": seed, **labels},
    }
    config = folder.plain(config)
    alone = rebuild.plan(run.folder, config, run.objects)
    target = None if out is None else place("out", out)
    made = () if target is None else folder.create(target, config, record.copies(config, run.objects))
    return Job(alone, config, target, execution, made=made)

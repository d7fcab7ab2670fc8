"""Resumes a run from its folder, makes it longer or gives it more seeds, and trains one lane of it again."""

import pathlib
import sys
from typing import Any

from pgjax.engine import checkpoints, chunks, processes
from pgjax.engine.execution import Execution, logger
from pgjax.engine.stages import extended
from pgjax.runs import folder, load, rebuild, record
from pgjax.runs.run import Run
from pgjax.runs.start import Job, finish
from pgjax.sweeps.user_code import OBJECTS
from pgjax.sweeps.values import place, whole


def resume(path: str | pathlib.Path, *, progress: bool = True, **options: Any) -> Run:
    """Go on with a run that was stopped or killed; it ends as if it had never been stopped, bit for bit.

    Example: `pgjax.resume("runs/ppo")`.

    A stream of environments stepped in Python begins new episodes instead, since their state is not saved.

    Args:
      path: the run folder.
      devices: how many of this process's devices; their number doesn't change the results, except with shard="envs".
        By default as many as the run asked for, as far as there are.
      log: "tensorboard" or "wandb", to log there from here on; "none", to log no more; by default as the run did.
      edited: go on though the source of one of the run's own functions has changed since.
      algorithm, env, policy, loss, advantage, estimator, optimizer, updater: see `pgjax.load`.
    """
    return finish(resumed_job(path, **options), progress)


def resumed_job(
    path: str | pathlib.Path, *, devices: Any = None, log: str | None = None, edited: bool = False, **objects: Any
) -> Job:
    """The run of a folder, with the plan and the execution that it was started with. See `resume`."""
    return _job(load.planned(path, edited, **objects), devices, log)


def _job(run: Run, devices: Any = None, log: str | None = None) -> Job:
    path, config = run.folder, run.config
    if (before := _rounding(config)) != (now := _rounding(record.machine())):
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
    return Job(run.plan, config, path, execution, logger(execution, path))


def _rounding(machine: dict[str, Any]) -> str:
    """The jaxlib and the device, on which the last bit of a run depends, as it does on its width."""
    return f"jaxlib {machine.get('versions', {}).get('jaxlib')} on {machine.get('device', {}).get('kind')}"


def extend(path: str | pathlib.Path, *, progress: bool = True, **options: Any) -> Run:
    """Make a finished run longer, or give it more seeds; trained updates are not trained again.

    Example: `pgjax.extend("runs/ppo", seeds=64)`.

    Args:
      steps, updates: how many each lane shall have in all, rounded up to whole segments.
      seeds: how many there shall be in all; the new ones count on from the last.
      devices, log, edited, algorithm and so on: see `resume`.
    """
    return finish(extended_job(path, **options), progress)


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
    (run.folder / "summary.json").unlink()
    chunks.write(run.folder / "chunks.json", longer)
    return job._replace(plan=rebuild.scheduled(run.plan, longer))


def replay(
    path: str | pathlib.Path,
    *,
    seed: int,
    out: str | pathlib.Path | None = None,
    progress: bool = True,
    edited: bool = False,
    **labels: Any,
) -> Run:
    """Train one lane of a run again, alone and at the run's width; its curve is the same, bit for bit.

    Example: `pgjax.replay("runs/ppo", seed=3)`.

    A stream of environments stepped in Python that was stopped in between has another curve, since their state is not
    saved.

    Args:
      seed, labels: which lane, as in `Run.lane`; and your own objects that can't be imported again, as in `pgjax.load`.
      out: the run folder of the new run; None writes nothing.
      edited: see `resume`.
    """
    return finish(replayed_job(path, seed=seed, out=out, edited=edited, **labels), progress)


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

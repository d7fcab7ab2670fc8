"""Starts a run: checks it, makes its folder, trains it while listening for signals, and writes the results."""

import contextlib
import functools
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from pgjax import analysis
from pgjax.engine import chunks, files, interrupts, processes
from pgjax.engine import memory as engine_memory
from pgjax.engine.checkpoints import Folder, Memory
from pgjax.engine.execution import Execution, check_fit, chosen_execution, logger
from pgjax.engine.loggers import Logger, Watch
from pgjax.engine.progress import Progress
from pgjax.engine.stages import first_schedule, next_rung, run_stage
from pgjax.engine.trainer import Engine
from pgjax.runs import folder, record, summary
from pgjax.runs.run import Run
from pgjax.sweeps.plan import Plan, plan
from pgjax.sweeps.values import place


class Job(NamedTuple):
    """A run that was checked and whose folder was made, ready for `execute`; nothing is compiled yet."""

    plan: Plan
    config: dict[str, Any]
    path: pathlib.Path | None
    execution: Execution
    watch: Logger | None = None  # the logger that the execution names
    made: Sequence[pathlib.Path] = ()  # folders to remove where the run turns out not to fit


def new_job(
    algorithm: Any,
    env: Any,
    *,
    out: str | pathlib.Path | None = None,
    command: list[str] | None = None,
    specs: dict[str, str | None] | None = None,
    memory: Any = None,
    width: Any = None,
    devices: Any = None,
    shard: str = "lanes",
    checkpoint: float = 60.0,
    snapshots: Any = 0,
    halving: Any = None,
    log: str | None = None,
    log_lanes: bool = False,
    **options: Any,
) -> Job:
    """Check a run and make its folder: every error that bad input can cause is raised here. See `run`."""
    execution = chosen_execution(out, memory, width, devices, shard, checkpoint, snapshots, halving, log, log_lanes)
    watch = logger(execution, out)
    chosen = plan(algorithm, env, **options)
    check_fit(chosen, execution)
    config = folder.plain(record.config(chosen, algorithm, env, command, specs or {}, options, execution._asdict()))
    path, made = None, None
    if out is not None:
        path = place("out", out)
        copies = record.copies(config, {"algorithm": algorithm, "env": env, **options})
        made = processes.once("making the run folder", functools.partial(folder.create, path, config, copies))
    return Job(chosen, config, path, execution, watch, made or ())


def execute(job: Job, progress: bool = True, watch: Watch | None = None) -> Run:
    """Train the lanes that are not trained yet, evaluate them, and write the results. See `run`.

    Args:
      watch: called with the metrics of every segment that was trained; by default the logger of the run.
    """
    chosen, config, path, execution, mine, made = job
    watch = watch or mine
    archive = Memory() if path is None else Folder(path / "chunks")
    devices = processes.devices(execution.devices)
    engine = Engine(chosen, archive, devices, execution.shard, execution.checkpoint, watch)
    with (
        files.locked(path),
        interrupts.interruptible() as stop,
        Progress(len(chosen.groups), shown=progress and processes.first()) as bar,
        contextlib.closing(mine) if mine else contextlib.nullcontext(),
    ):
        schedule = None if path is None else chunks.read(path / "chunks.json")
        processes.any_of(False)  # every process has read it before the first one writes it
        if schedule is None:
            try:
                schedule = first_schedule(chosen, engine, execution, path, bar)
            except ValueError:  # too little memory, which is known only after compiling
                folder.discard(made)
                raise
        stage, stopped = 0, False
        while stage <= schedule.chunks[-1].stage and not stopped:
            run_stage(chosen, engine, schedule, stage, execution.snapshots, bar, stop)
            stopped = processes.any_of(stop.is_set())  # the signal may have reached one process only
            if execution.halving and stage == schedule.chunks[-1].stage and not stopped:
                schedule = next_rung(chosen, archive, schedule, execution.halving, path)
            stage += 1
    result = summary.collect(chosen, config, schedule, archive, path, execution.halving, engine.clock)
    result.signal = stop.signal
    if path is not None:
        draw = functools.partial(analysis.curve, result.metrics, title=result.title)
        write = functools.partial(folder.write, path, result.summary, result.metrics, draw)
        processes.once("writing the results", write)
    engine_memory.give_back()
    return result


def run(algorithm: Any, env: Any, *, progress: bool = True, **options: Any) -> Run:
    """Train every setting with every seed, as lanes of one compiled program for each static choice.

    Example: `run("ppo", "CartPole-v1", seeds=32, settings={"learning_rate": [1e-3, 3e-4]})`.

    Args:
      algorithm, env: names, or your own objects.
      seeds=1, seed=0, steps, updates, settings, policy: see `sweeps.plan.plan`; `search.sample` draws settings from
        ranges.
      loss, advantage, estimator, optimizer, updater: a plug in place of the algorithm's own, an object or a name that
        `pgjax list` shows: `advantage="td"`; see `sweeps.plan.plan`.
      out: the run folder, which must not exist; None writes nothing, and keeps every lane's state in memory.
      memory: how much memory the run may use, such as "4GB": lanes are trained in chunks that fit. By default half
        of the host's memory, or .8 of an accelerator's.
      width: lanes of a chunk on each device, instead of `memory`. It is part of the run: other widths round
        differently.
      devices: how many of this process's devices; by default all.
      shard: "lanes", each device trains lanes of its own; or "envs", all devices train the same lanes, each
        with its part of the environments, the gradient averaged over them.
      checkpoint: seconds between two checkpoints of every lane's whole state; 0 makes one after each segment.
      snapshots: how many checkpoints to keep for good, besides the last: the first before training, the others
        evenly spaced, each at the nearest end of a segment. See `pgjax.load`.
      halving: eta: after updates / eta^k updates, for each k, the best 1 / eta of the settings go on and the others
        stop.
      log: "tensorboard" or "wandb" (extras of the same names): also write there while the run trains; log_lanes:
        log every lane separately instead of the mean over a setting's seeds.
      progress: show a live bar (lines where the output is no terminal).
      command: the user's words, for config.json; specs: "env", "loss" and so on -> the module:name or file.py:name
        that it was loaded from.

    Returns:
      the Run. After Ctrl-C it holds the results up to then, and `interrupted` is true; a second
      Ctrl-C stops at once. SIGTERM and SIGHUP stop it in the same way, and when all is written the process ends
      as that signal ends it: see `interrupts.end`.

    Raises:
      ValueError, TypeError: for bad input, before anything is compiled or written.
      OSError: where a checkpoint can't be written; `resume` goes on from the one before.
    """
    return finish(new_job(algorithm, env, **options), progress)


def finish(job: Job, progress: bool = True) -> Run:
    """`execute`, and then end the program by the SIGTERM or SIGHUP that stopped the run, if one did."""
    result = execute(job, progress)
    interrupts.end(result.signal)
    return result

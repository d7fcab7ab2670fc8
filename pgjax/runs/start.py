"""Starts a run: checks it, makes its folder or finds it begun, and trains it."""

import pathlib
import sys
from typing import Any

from pgjax.engine import chunks, interrupts
from pgjax.engine.execution import check_fit, chosen_execution, logger
from pgjax.errors import ChunkError
from pgjax.runs import begun, folder, record
from pgjax.runs.drive import drive
from pgjax.runs.execute import Job, execute
from pgjax.runs.rebuild import scheduled
from pgjax.runs.run import Run
from pgjax.sweeps.plan import plan
from pgjax.sweeps.values import place


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
    checkpoint: float | None = None,
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
    if out is None:
        return Job(chosen, config, None, execution, watch)
    path = place("out", out)
    if not begun.there(path):
        copies = record.copies(config, {"algorithm": algorithm, "env": env, **options})
        try:
            return Job(chosen, config, path, execution, watch, folder.create(path, config, copies))
        except ValueError:  # unless another process has just made it
            if not begun.there(path):
                raise
    recorded = begun.same(path, config, options | {"algorithm": algorithm, "env": env})
    schedule = chunks.read(path / "chunks.json")
    print(f"pgjax: goes on with the run in {path}", file=sys.stderr)
    return Job(chosen if schedule is None else scheduled(chosen, schedule), recorded, path, execution, watch)


def run(algorithm: Any, env: Any, *, progress: bool = True, executor: Any = None, **options: Any) -> Run:
    """Train every setting with every seed, as lanes of one compiled program for each static choice.

    Example: `run("ppo", "CartPole-v1", seeds=32, settings={"learning_rate": [1e-3, 3e-4]})`.

    Args:
      algorithm, env: names, or your own objects.
      seeds=1, seed=0, steps, updates, settings, policy: see `sweeps.plan.plan`; `search.sample` draws settings from
        ranges.
      loss, advantage, estimator, optimizer, updater: a plug in place of the algorithm's own, an object or a name that
        `pgjax list` shows: `advantage="td"`; see `sweeps.plan.plan`.
      out: the run folder; where it holds this very run, that goes on, or is returned if it had ended. None writes
        nothing, and keeps every lane's state in memory.
      memory: how much memory the run may use, such as "4GB": lanes are trained in chunks that fit. By default half
        of the host's memory, or .8 of an accelerator's.
      width: lanes of a chunk on each device, instead of `memory`. It is part of the run: other widths round
        differently.
      devices: how many of this process's devices; by default all.
      shard: "lanes", each device trains lanes of its own; or "envs", all devices train the same lanes, each
        with its part of the environments, the gradient averaged over them.
      checkpoint: seconds between two checkpoints of every lane's whole state; 0 makes one after each segment. By
        default every five seconds, or as often as they take a fiftieth of the time.
      snapshots: how many checkpoints to keep for good, besides the last: the first before training, the others
        evenly spaced, each at the nearest end of a segment. See `pgjax.load`.
      halving: eta: after updates / eta^k updates, for each k, the best 1 / eta of the settings go on and the others
        stop.
      log: "tensorboard" or "wandb" (extras of the same names): also write there while the run trains; log_lanes:
        log every lane separately instead of the mean over a setting's seeds.
      executor: whose workers train the chunks, each a task: a `concurrent.futures.Executor`, a Dask client, an executor
        of submitit, or what `pgjax.executors.connect` gives. They must see the folder `out`.
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
    job = new_job(algorithm, env, **options)
    return finish(job, progress, executor, {"algorithm": algorithm, "env": env, **options})


def finish(job: Job, progress: bool = True, executor: Any = None, objects: dict[str, Any] | None = None) -> Run:
    """Carry a job out, here or by the workers of an executor: see `run` and `drive`.

    Raises:
      ChunkError: where chunks failed three times; the results of the others are written.

    The SIGTERM or SIGHUP that stopped the run, if one did, then ends the program.
    """
    result = execute(job, progress) if executor is None else drive(job, executor, progress, objects)
    interrupts.end(result.signal)
    if failed := result.summary["failed_chunks"]:
        raise ChunkError("; ".join(failed.values()))
    return result

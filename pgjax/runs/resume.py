"""Resumes a run from its folder, makes it longer or gives it more seeds, and trains one lane of it again."""

import pathlib
from typing import Any

from pgjax.runs.jobs import extended_job, replayed_job, resumed_job
from pgjax.runs.run import Run
from pgjax.runs.start import finish


def resume(path: str | pathlib.Path, *, progress: bool = True, executor: Any = None, **options: Any) -> Run:
    """Go on with a run that was stopped or killed; it ends as if it had never been stopped, bit for bit.

    Example: `pgjax.resume("runs/ppo")`.

    A stream of environments stepped in Python begins new episodes instead, since their state is not saved.

    Args:
      path: the run folder.
      devices: how many of this process's devices; their number doesn't change the results, except with shard="envs".
        By default as many as the run asked for, as far as there are.
      log: "tensorboard" or "wandb", to log there from here on; "none", to log no more; by default as the run did.
      executor: see `pgjax.run`.
      edited: go on though the source of one of the run's own functions has changed since.
      algorithm, env, policy, loss, advantage, estimator, optimizer, updater: see `pgjax.load`.
    """
    return finish(resumed_job(path, strict=executor is not None, **options), progress, executor, options)


def extend(path: str | pathlib.Path, *, progress: bool = True, **options: Any) -> Run:
    """Make a finished run longer, or give it more seeds; trained updates are not trained again.

    Example: `pgjax.extend("runs/ppo", seeds=64)`.

    Args:
      steps, updates: how many each lane shall have in all, rounded up to whole segments.
      seeds: how many there shall be in all; the new ones count on from the last.
      devices, log, edited, algorithm and so on: see `resume`.
    """
    return finish(extended_job(path, **options), progress)


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

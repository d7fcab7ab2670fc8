"""Reads a run back from its folder."""

import pathlib
import sys
from typing import Any

from pgjax.runs import folder, rebuild
from pgjax.runs.run import Run


def load(path: str | pathlib.Path, **objects: Any) -> Run:
    """Read a run folder: `pgjax.load("runs/ppo").lane(seed=3)`.

    Args:
      path: the folder.
      objects: algorithm, env, policy, loss, advantage, estimator, optimizer, updater, as they were given to
        `pgjax.run`. Only your own objects that can't be imported again are needed: objects made inside a function or a
        script.

    Raises:
      ValueError: where the folder is not a run's, has no parameters, or names an object that can't be made again.
    """
    run = planned(path, **objects)
    if not run.begun or not run.updates:
        raise ValueError(f"path: {str(run.path)!r} holds no parameters, only {folder.content(run.folder)}")
    return run


def planned(path: str | pathlib.Path, edited: bool | None = None, **objects: Any) -> Run:
    """A run whose plan could be made again, with parameters or without.

    Args:
      edited: whether the source of your own functions may have changed since the run was begun; None allows it with
        a line on stderr.
      objects: see `load`.
    """
    run = Run.open(path, **objects)
    if not edited and (change := rebuild.edited(run.config, run.objects)):
        if edited is not None:
            raise ValueError(f"{change}; put it back as it was, or go on with it as it is by edited (--edited)")
        print(f"pgjax: {change}", file=sys.stderr)
    _ = run.plan  # made now, so that its errors are raised now
    return run

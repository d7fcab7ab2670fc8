"""The commands `resume`, `extend` and `replay`."""

import functools
import pathlib
from typing import Any

import numpy as np

from pgjax.cli.common import Action, execute, items, join_processes, stamp
from pgjax.cli.common import labels as labels_of
from pgjax.cli.options import Extend, Replay, Resume
from pgjax.runs import dataset, load
from pgjax.runs.resume import extended_job, replayed_job, resumed_job
from pgjax.runs.run import Run


def resume(options: Resume, words: list[str]) -> Action:
    """Checks the options of `pgjax resume`; the function returned carries it out."""
    join_processes(options)
    job = resumed_job(options.folder, devices=options.devices, log=options.log, edited=options.edited)
    return functools.partial(execute, job)


def extend(options: Extend, words: list[str]) -> Action:
    """Checks the options of `pgjax extend`; the function returned carries it out."""
    names = ("steps", "updates", "seeds", "log", "edited")
    more = {name: getattr(options, name) for name in names}
    return functools.partial(execute, extended_job(options.folder, **more))


def replay(options: Replay, words: list[str]) -> Action:
    """Checks the options of `pgjax replay`; the function returned carries it out."""
    labels = labels_of(items(options.lane), load.planned(options.folder, options.edited))
    folder = pathlib.Path(options.folder)
    out = f"{folder.resolve()}-replay-{stamp()}" if options.out is None else options.out
    job = replayed_job(folder, out=out, edited=options.edited, **labels)

    def act():
        code = execute(job)
        return code or _compare(folder, labels, pathlib.Path(out))

    return act


def _compare(folder: pathlib.Path, labels: dict[str, Any], out: pathlib.Path) -> int:
    """Print whether the replayed lane equals the run's; the exit code is 1 where it doesn't."""
    if not (folder / "metrics.zarr").is_dir():
        print("the run has no metrics.zarr to compare with")
        return 0
    axes = dataset.coordinates(labels)
    before, again = Run.open(folder).metrics, Run.open(out).metrics.squeeze(list(axes), drop=True)
    if any(value not in before[name].values for name, value in axes.items()):
        print("the run has not trained this lane to its end")
        return 0
    before = before.sel(axes)
    count = min(before.sizes["update"], again.sizes["update"])
    before, again = (x.isel(update=slice(count)) for x in (before, again))
    names = [n for n in again.data_vars if n in before and again[n].dims]
    differ = [n for n in names if not np.array_equal(before[n], again[n], equal_nan=True)]
    print(f"not the curve of the run: {', '.join(differ)} differ" if differ else "the curve of the run, bit for bit")
    return 1 if differ else 0

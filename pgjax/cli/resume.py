"""The commands `resume`, `extend` and `replay`."""

import functools
import pathlib
from typing import Any

import numpy as np

from pgjax.cli.common import Action, execute, items, join_processes, stamp, told, workers_of
from pgjax.cli.common import labels as labels_of
from pgjax.cli.options import Extend, Replay, Resume, Work
from pgjax.engine import files, programs
from pgjax.runs import dataset, load
from pgjax.runs.execute import execute as run_here
from pgjax.runs.jobs import extended_job, replayed_job, resumed_job
from pgjax.runs.run import Run
from pgjax.sweeps import values


def resume(options: Resume, words: list[str]) -> Action:
    """Checks the options of `pgjax resume`; the function returned carries it out."""
    join_processes(options)
    on = workers_of(options)
    edited, strict = options.edited, options.on is not None
    job = resumed_job(options.folder, devices=options.devices, log=options.log, edited=edited, strict=strict)
    return functools.partial(execute, job, *on, objects={"edited": edited})


def work(options: Work, words: list[str]) -> Action:
    """Checks the options of `pgjax work`; the function returned carries it out."""
    programs.keep_compiled(values.place("path", options.folder) / "work" / "compiled")
    job = resumed_job(options.folder, devices=options.devices, strict=True)

    def act():
        result = run_here(job, worker=True)
        return 128 + result.signal if result.signal else told(result)

    return act


def extend(options: Extend, words: list[str]) -> Action:
    """Checks the options of `pgjax extend`; the function returned carries it out."""
    names = ("steps", "updates", "seeds", "log", "edited")
    more = {name: getattr(options, name) for name in names}
    return functools.partial(execute, extended_job(options.folder, **more))


def replay(options: Replay, words: list[str]) -> Action:
    """Checks the options of `pgjax replay`; the function returned carries it out."""
    labels = labels_of(items(options.lane), load.planned(options.folder, options.edited))
    folder = values.place("path", options.folder)
    out = f"{folder if files.remote(folder) else folder.resolve()}-replay-{stamp()}"
    out = out if options.out is None else options.out
    job = replayed_job(folder, out=out, edited=options.edited, **labels)

    def act():
        code = execute(job)
        return code or _compare(folder, labels, values.place("out", out))

    return act


def _compare(folder: pathlib.Path, labels: dict[str, Any], out: pathlib.Path) -> int:
    """Print whether the replayed lane equals the run's; the exit code is 1 where it doesn't."""
    if not files.exists(folder / "metrics.zarr"):
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

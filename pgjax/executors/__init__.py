"""Places that run calls of functions: the processes of this machine, and the schedulers of clusters.

`connect("dask:tcp://HOST:8786", None, folder)` gives an Engine; `engine_of(executor)` makes one of any
`concurrent.futures.Executor`. Each engine has a file here, and needs the extra of its name.
"""

import pathlib
from typing import Any

from pgjax.errors import told, unknown
from pgjax.executors import dask, local, mpi, ray, slurm
from pgjax.executors.engine import Engine, Task, submitting

KINDS = ("processes", "loky", "dask", "slurm", "mpi", "ray")
__all__ = ["KINDS", "Engine", "Task", "connect", "engine_of"]


def connect(on: str, workers: int | None, folder: pathlib.Path) -> Engine:
    """The engine that `on` names, as KIND or KIND:WHERE.

    processes, loky: `workers` processes of this machine, one for each core unless said.
    dask, ray: the same on a scheduler of their own; dask:tcp://HOST:8786, ray:HOST:6379 or ray:auto: one that runs.
    slurm, slurm:partition=gpu,time=60: jobs; `workers`, where it is given, says how many run at once.
    mpi: the ranks that `mpiexec -n 3 python -m mpi4py.futures -m pgjax ...` has started.

    Args:
      folder: the run's; where an engine writes files, they are in `folder`/work.

    Raises:
      ValueError: of an unknown kind, a scheduler that doesn't answer, or options that it refuses.
      PackageError: where the engine's package is missing or broken.
    """
    check(on)
    kind, colon, where = on.partition(":")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if kind in ("processes", "loky", "mpi"):
        if colon:
            raise ValueError(f"on: {kind} has nothing after its name, got {on!r}")
        return {"processes": local.processes, "loky": local.loky, "mpi": mpi.engine}[kind](workers)
    if kind == "slurm":
        return slurm.engine(where, workers, folder)
    return {"dask": dask.engine, "ray": ray.engine}[kind](where, workers)


def check(on: str) -> None:
    """ValueError where `on` names no kind of engine."""
    if (kind := on.partition(":")[0]) not in KINDS:
        raise ValueError(unknown("on: unknown engine", kind, KINDS))


def engine_of(executor: Any) -> Engine:
    """An engine of a `concurrent.futures.Executor`, a Dask client or an executor of submitit, which stays its user's.

    Raises:
      TypeError: where it has no `submit`.
    """
    if isinstance(executor, Engine):
        return executor
    if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
        raise TypeError(
            f"executor: give an object with a method submit, such as a ProcessPoolExecutor; got {told(executor)}"
        )
    package = type(executor).__module__.partition(".")[0]
    if package == "submitit":
        return slurm.of(executor, None)
    if package == "distributed" and hasattr(executor, "get_executor"):  # else equal calls would be made once
        return Engine("dask", submitting(lambda f, *args: executor.submit(f, *args, pure=False)), None)
    workers = getattr(executor, "num_workers", getattr(executor, "_max_workers", None))
    return Engine(type(executor).__name__, submitting(executor.submit), workers)

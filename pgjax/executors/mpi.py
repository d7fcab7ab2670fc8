"""MPI: rank 0 of a program that mpiexec started gives work to the other ranks."""

from pgjax.dependencies import importing
from pgjax.executors.engine import Engine, submitting
from pgjax.executors.worker import alone

# Seconds between two looks of a rank that waits, at most: mpi4py's millisecond takes a tenth of two busy cores.
WAIT = 0.1


def engine(workers: int | None) -> Engine:
    """`mpi4py.futures.MPIPoolExecutor` over the ranks that mpiexec has started, but for rank 0.

    A rank that dies takes the whole program with it, as MPI has it: start the same command again, and it goes on.

    Raises:
      ValueError: where this program wasn't started through mpi4py.futures, or with another number of workers.
    """
    with importing("mpi4py", "mpi", "on: mpi"):
        from mpi4py.futures import MPIPoolExecutor, _core
    start = f"mpiexec -n {(workers or 2) + 1} python -m mpi4py.futures -m pgjax ..."
    if _core.SharedPool is None:
        raise ValueError(f"on: mpi needs ranks to work on, and one more that gives out the work; start it as {start}")
    pool = MPIPoolExecutor(initializer=alone, backoff=WAIT)
    if workers not in (None, pool.num_workers):
        raise ValueError(f"workers: mpiexec has started {pool.num_workers}, not {workers}; start it as {start}")
    return Engine(
        "mpi",
        submitting(pool.submit),
        pool.num_workers,
        close=lambda cancel=False: pool.shutdown(False, cancel_futures=True),
    )

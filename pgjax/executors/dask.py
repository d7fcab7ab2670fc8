"""Dask: a scheduler that runs already, or one with workers on this machine."""

import logging

from pgjax.dependencies import importing
from pgjax.engine.machine import cores
from pgjax.executors.engine import Engine, submitting
from pgjax.executors.worker import ENVIRONMENT

# Seconds in which a scheduler has to answer.
PATIENCE = 10
# What our own workers go without: Dask has malloc give memory back at once, so that a program touches new pages at each
# call, and asks each thread a hundred times a second what it does. Together they take a twentieth of a chunk's time.
PROFILE, SET, TRIM = "worker.profile.enabled", "nanny.pre-spawn-environ", "MALLOC_TRIM_THRESHOLD_"


def engine(where: str, workers: int | None) -> Engine:
    """The scheduler at `where`, such as tcp://HOST:8786; with "" one of our own, with one worker for each core.

    A call whose worker died is started again by Dask, up to its own `distributed.scheduler.allowed-failures`.

    Raises:
      ValueError: where no scheduler answers at `where`.
    """
    with importing("distributed", "dask", "on: dask"):
        import dask
        from distributed import Client, LocalCluster
    if where and workers is not None:
        raise ValueError(f"workers: the scheduler at {where} has its own; leave workers={workers} out")
    local, count = None, workers or cores()
    if not where:
        kept = {name: value for name, value in dask.config.get(f"distributed.{SET}", {}).items() if name != TRIM}
        with dask.config.set({f"distributed.{SET}": kept, f"distributed.{PROFILE}": False}):
            local = LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                memory_limit=0,  # a worker that needs more than its share is no reason to kill it
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
                env=ENVIRONMENT,
            )
    try:
        client = Client(local or where, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"on: no Dask scheduler answers at {where!r} within {PATIENCE} s ({said}); start one by "
            "`dask scheduler`, and give the address that it prints"
        ) from error

    def submit(function, *args):
        return client.submit(function, *args, pure=False, retries=0)

    def close(cancel=False):
        client.close()
        if local is not None:
            local.close()

    return Engine("dask", submitting(submit), None if where else count, close=close)

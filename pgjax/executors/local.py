"""Processes of this machine: the standard library's pool, and loky's, which also sends functions of a notebook."""

import concurrent.futures
import multiprocessing
import os
import signal
import time
import weakref
from collections.abc import Callable
from typing import Any

from pgjax.dependencies import importing
from pgjax.engine.machine import cores
from pgjax.executors.engine import Engine, submitting
from pgjax.executors.worker import ENVIRONMENT, follow

# Seconds that a call has, after SIGTERM, to save what it has.
PATIENCE = 30.0


def processes(workers: int | None) -> Engine:
    """`concurrent.futures.ProcessPoolExecutor`, with one worker for each core unless `workers` says otherwise."""
    spawn = multiprocessing.get_context("spawn")  # JAX's threads don't survive a fork
    count = workers or cores()
    return _pool(
        "processes",
        count,
        lambda: concurrent.futures.ProcessPoolExecutor(count, spawn, initializer=follow, initargs=(os.getpid(),)),
    )


def loky(workers: int | None) -> Engine:
    """`loky.ProcessPoolExecutor`, with one worker for each core unless `workers` says otherwise."""
    with importing("loky", "loky", "on: loky"):
        from loky import ProcessPoolExecutor
    count = workers or cores()
    first = {"initializer": _keep, "initargs": (os.getpid(),), "env": ENVIRONMENT}
    return _pool("loky", count, lambda: ProcessPoolExecutor(count, **first))


def _keep(parent: int) -> None:
    with importing("loky", "loky", "on: loky"):
        from loky import process_executor
    process_executor._MAX_MEMORY_LEAK_SIZE = float("inf")  # else a worker that compiles a larger program is replaced
    follow(parent)


def _pool(kind: str, count: int, make: Callable[[], Any]) -> Engine:
    pool, futures = make(), weakref.WeakSet[Any]()

    def submit(function, *args):
        future = pool.submit(function, *args)
        futures.add(future)
        return future

    def renew():
        nonlocal pool
        try:
            pool.submit(int)
        except concurrent.futures.BrokenExecutor:
            pool = make()

    def close(cancel=False):
        workers = list((pool._processes or {}).values())
        for future in list(futures):
            future.cancel()
        pool.shutdown(wait=False)  # who is idle ends
        _end(workers, 1, signal.SIGTERM)
        _end(workers, PATIENCE, signal.SIGKILL)

    return Engine(kind, submitting(submit), count, renew, close)


def _end(workers: list[Any], seconds: float, number: int) -> None:
    """Give the workers some time to end, and then send the signal to those that haven't; loky's have no `kill`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(worker.is_alive() for worker in workers):
        time.sleep(0.02)
    for worker in workers:
        if worker.is_alive():
            os.kill(worker.pid, number)

"""What a worker process does first: it takes one device, and ends when the process that started it has ended."""

import contextlib
import os
import signal
import sys
import threading
import time

from pgjax.engine.machine import cores


def environment(workers: int) -> dict[str, str]:
    """The environment of each of `workers` processes of one machine: one CPU device, and its share of the cores.

    XLA gives a process a thread for each core of the machine. Where each of two workers has two, a chunk takes a fifth
    longer than with one each (benchmarks/results/tricks.md).
    """
    share = os.environ.get("NPROC") or str(max(1, cores() // max(1, workers)))
    return {"JAX_NUM_CPU_DEVICES": "1", "NPROC": share}


def alone(given: dict[str, str]) -> None:
    """Let JAX see one CPU device, and so on: `given` is the `environment` of this process."""
    os.environ.update(given)
    if "jax" in sys.modules:  # it has read the environment
        import jax

        with contextlib.suppress(RuntimeError):  # the user's own script has used it already
            jax.config.update("jax_num_cpu_devices", 1)


def follow(parent: int, given: dict[str, str]) -> None:
    """`alone`, and end by SIGTERM once the process `parent` is gone, which may have been killed.

    Ctrl-C, which a terminal sends to every process, is left to the calls that listen for it.
    """
    alone(given)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)

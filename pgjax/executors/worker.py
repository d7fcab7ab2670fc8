"""What a worker process does first: it takes one device, and ends when the process that started it has ended."""

import contextlib
import os
import signal
import sys
import threading
import time

ENVIRONMENT = {"JAX_NUM_CPU_DEVICES": "1"}


def alone() -> None:
    """Let JAX see one CPU device: on one machine the workers share the cores."""
    os.environ.update(ENVIRONMENT)
    if "jax" in sys.modules:  # it has read the environment
        import jax

        with contextlib.suppress(RuntimeError):  # the user's own script has used it already
            jax.config.update("jax_num_cpu_devices", 1)


def follow(parent: int) -> None:
    """`alone`, and end by SIGTERM once the process `parent` is gone, which may have been killed.

    Ctrl-C, which a terminal sends to every process, is left to the calls that listen for it.
    """
    alone()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)

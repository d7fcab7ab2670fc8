"""Contexts of a run that takes long: Ctrl-C is heard at the end of a segment, and its folder is its own."""

import contextlib
import fcntl
import pathlib
import signal
import sys
import threading

from pgjax import hosts


@contextlib.contextmanager
def locked(path: pathlib.Path | None):
    """The folder is this run's alone, as long as the process lives."""
    if path is None or not hosts.first():
        yield
        return
    with open(path / "config.json") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"path: another process trains the run in {str(path)!r}; wait for it, or stop it"
            ) from None
        yield


@contextlib.contextmanager
def interruptible():
    """Yields an event that the first Ctrl-C sets; the second stops the program as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(number, frame):
        stop.set()
        signal.signal(signal.SIGINT, before)
        print("\nstopping after this segment; Ctrl-C again to stop at once", file=sys.stderr, flush=True)

    signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)

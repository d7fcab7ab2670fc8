"""Contexts of a run that takes long: signals are heard at the end of a segment, and its folder is its own."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

# Ctrl-C; what clusters, `timeout` and `kill` send; a terminal that was closed.
HEARD = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


# A terminal that closes, `timeout` and systemd send two at once: within this many seconds they are one.
TOGETHER = 1.0


class Stop(threading.Event):
    """Set when a signal asks to stop; `signal` is the number of the first."""

    signal: int | None = None


@contextlib.contextmanager
def interruptible() -> Iterator[Stop]:
    """Yields a Stop that the first SIGINT (Ctrl-C), SIGTERM or SIGHUP sets; the second does what it did before.

    A SIGTERM or SIGHUP that is ignored, as under nohup, stays ignored. Only the main thread of a process hears
    signals; elsewhere the Stop is never set.
    """
    stop, shown = Stop(), [file for file in (2, 1) if os.isatty(file)]
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in HEARD}
    # None is a handler that Python didn't install and couldn't put back.
    before = {n: x for n, x in before.items() if x is not None and (n == signal.SIGINT or x != signal.SIG_IGN)}
    began, owner = 0.0, os.getpid()

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number, frame):
        nonlocal began
        if os.getpid() != owner:  # a fork, such as a simulator's: its parent says when it ends, by SIGTERM
            if number == signal.SIGTERM:
                restore()
                signal.raise_signal(number)
        elif not stop.is_set():
            stop.signal, began = number, time.monotonic()
            stop.set()
            _say(f"{signal.Signals(number).name}: stopping after this segment; once more to stop at once", shown)
        elif number == signal.SIGINT or time.monotonic() - began > TOGETHER:
            restore()
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()


def end(number: int | None) -> None:
    """End as a process that SIGTERM or SIGHUP ends, now that everything is written; else nothing.

    A program that called a run is to end too, or whoever sent the signal waits for all that it still means to do. A
    handler of the caller's own is called instead.
    """
    if number not in (None, signal.SIGINT):
        signal.raise_signal(number)


def _say(text: str, terminals: list[int]) -> None:
    """On stderr; what writes to a terminal that is gone writes to nowhere from here on, and raises no error."""
    for file in terminals:
        try:
            os.write(file, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, file)
            os.close(nowhere)
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # it may be at work on another line
        print(f"\n{text}", file=sys.stderr, flush=True)

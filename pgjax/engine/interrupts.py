"""Turns the first Ctrl-C, SIGTERM or SIGHUP into a stop at the end of the segment."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

# Ctrl-C; the signal of clusters, `timeout` and `kill`; the signal of a terminal that is closed.
HEARD = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


# A closing terminal, `timeout` and systemd send two signals at once: within this many seconds they count as one.
TOGETHER = 1.0


class Stop(threading.Event):
    """Set when a signal asks to stop; `signal` is the number of the first."""

    signal: int | None = None


@contextlib.contextmanager
def interruptible() -> Iterator[Stop]:
    """Yields a Stop that the first SIGINT (Ctrl-C), SIGTERM or SIGHUP sets; the second has its usual effect.

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
        if os.getpid() != owner:  # a fork, such as a simulator's: its parent ends it by SIGTERM
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
    """Raise the SIGTERM or SIGHUP that stopped a run, now that everything is written; Ctrl-C and None do nothing.

    So a program that called the run ends too, and the sender of the signal doesn't wait for the rest of the program.
    A handler that the caller has installed is called instead.
    """
    if number not in (None, signal.SIGINT):
        signal.raise_signal(number)


def _say(text: str, terminals: list[int]) -> None:
    """Print on stderr. Output to a terminal that is gone is dropped from here on, and raises no error."""
    for file in terminals:
        try:
            os.write(file, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, file)
            os.close(nowhere)
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # stderr may be printing another line
        print(f"\n{text}", file=sys.stderr, flush=True)

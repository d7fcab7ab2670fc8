"""Calls for engines to run, and a test's patience with them."""

import os
import pathlib
import signal
import time


def write(path, text="done"):
    pathlib.Path(path).write_text(text)


def nothing():
    pass


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def fail():
    raise ValueError("a call of this kind fails")


def count_devices(path):
    import jax

    write(path, str(jax.device_count()))


def tell(path, name):
    write(path, os.environ.get(name, "unset"))


def pid(path, seconds):
    write(path, str(os.getpid()))
    time.sleep(seconds)


def until_told(path):
    """Works until SIGTERM, saves, and lets the signal have its usual effect, as a run does."""
    told = []
    usual = signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    write(f"{path}.began")
    while not told:
        time.sleep(0.05)
    write(path, "saved")
    signal.signal(signal.SIGTERM, usual)
    signal.raise_signal(signal.SIGTERM)


def wait(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def failure(task):
    """What the task's failure was, once it is done."""
    wait(task.done)
    return task.exception()

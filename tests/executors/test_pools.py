"""Pools of processes on this machine: they survive the death of a worker, and end with whoever started them."""

import importlib.util
import os
import signal
import subprocess
import sys
import time

import pytest
import toys

from pgjax.executors import connect

KINDS = [
    "processes",
    pytest.param("loky", marks=pytest.mark.skipif(not importlib.util.find_spec("loky"), reason="needs loky")),
]
pytestmark = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def engine(kind, tmp_path):
    found = connect(kind, 1, tmp_path)
    yield found
    found.close()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_calls_run_and_their_failures_are_told(engine, tmp_path):
    tasks = [engine.submit(toys.write, tmp_path / str(i)) for i in range(3)]
    assert [toys.failure(task) for task in tasks] == [None] * 3
    assert engine.workers == 1 and (tmp_path / "2").exists()
    assert str(toys.failure(engine.submit(toys.fail))) == "a call of this kind fails"


def test_a_dead_worker_is_a_failure_and_the_pool_is_renewed(engine, tmp_path):
    tasks = [engine.submit(toys.die), engine.submit(toys.write, tmp_path / "never")]
    assert all(toys.failure(task) is not None for task in tasks)
    assert toys.failure(engine.submit(toys.nothing)) is not None  # and no error of submit
    engine.renew()
    task = engine.submit(toys.write, tmp_path / "after")
    engine.renew()
    assert toys.failure(task) is None and (tmp_path / "after").exists()


def test_a_worker_sees_one_device(engine, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "4")
    assert toys.failure(engine.submit(toys.count_devices, tmp_path / "devices")) is None
    assert (tmp_path / "devices").read_text() == "1"


def test_closing_lets_a_call_save(kind, tmp_path):
    engine = connect(kind, 1, tmp_path)
    engine.submit(toys.until_told, tmp_path / "work")
    waiting = engine.submit(toys.write, tmp_path / "never")
    toys.wait((tmp_path / "work.began").exists)
    engine.close()
    assert (tmp_path / "work").read_text() == "saved" and toys.failure(waiting) is not None


def test_workers_end_with_their_parent(kind, tmp_path):
    code = f"""if __name__ == "__main__":
        import pathlib, sys, time
        sys.path.insert(0, {os.path.dirname(toys.__file__)!r})
        import toys
        from pgjax.executors import connect
        connect({kind!r}, 1, pathlib.Path()).submit(toys.pid, {str(tmp_path / "pid")!r}, 600)
        time.sleep(600)"""
    (tmp_path / "main.py").write_text(code)
    with subprocess.Popen([sys.executable, tmp_path / "main.py"]) as parent:
        toys.wait(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        worker = int((tmp_path / "pid").read_text())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    try:
        toys.wait(lambda: not alive(worker), 10)
    finally:
        if alive(worker):
            os.kill(worker, signal.SIGKILL)


def test_closing_an_idle_pool_takes_no_time(kind, tmp_path):
    engine = connect(kind, 1, tmp_path)
    assert toys.failure(engine.submit(toys.nothing)) is None
    began = time.monotonic()
    engine.close()
    assert time.monotonic() - began < 5

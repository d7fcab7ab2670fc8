"""Dask: a cluster of our own, and a scheduler with two workers that runs already."""

import os
import socket
import subprocess
import sys

import pytest
import toys

from pgjax.executors import connect, engine_of

distributed, dask = pytest.importorskip("distributed"), pytest.importorskip("dask")


@pytest.fixture(scope="module")
def engine():
    found = connect("dask", 1, None)
    yield found
    found.close()


@pytest.fixture
def scheduler(tmp_path):
    """The address of a scheduler in a process of its own, which has two workers, and the process."""
    port = _free()
    address = f"tcp://127.0.0.1:{port}"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(toys.__file__), *sys.path])}
    run = {"cwd": tmp_path, "env": environment, "stderr": subprocess.DEVNULL}
    from_dask = [sys.executable, "-m", "dask"]
    parts = [
        subprocess.Popen(
            [*from_dask, "scheduler", "--port", str(port), "--no-dashboard", "--host", "127.0.0.1"], **run
        ),
        subprocess.Popen(
            [*from_dask, "worker", address, "--nworkers", "2", "--nthreads", "1", "--no-dashboard"], **run
        ),
    ]
    yield address, parts[0]
    for part in parts:
        part.terminate()
        part.wait()


def _free():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_calls_run_and_their_failures_are_told(engine, tmp_path):
    tasks = [engine.submit(toys.write, tmp_path / str(i)) for i in range(3)]
    assert [toys.failure(task) for task in tasks] == [None] * 3
    assert engine.workers == 1 and (tmp_path / "2").exists()
    assert str(toys.failure(engine.submit(toys.fail))) == "a call of this kind fails"


def test_a_worker_is_not_slowed_by_what_dask_sets(engine, tmp_path):
    for name in ("MALLOC_TRIM_THRESHOLD_", "OMP_NUM_THREADS"):
        assert toys.failure(engine.submit(toys.tell, tmp_path / name, name)) is None
    assert (tmp_path / "MALLOC_TRIM_THRESHOLD_").read_text() == "unset"
    assert (tmp_path / "OMP_NUM_THREADS").read_text() == "1"
    assert dask.config.get("distributed.worker.profile.enabled")  # of the user's own clusters


def test_equal_calls_are_two(engine, tmp_path):
    for _ in range(2):
        assert toys.failure(engine.submit(toys.write, tmp_path / "again")) is None
        (tmp_path / "again").unlink()


def test_a_worker_sees_one_device(engine, tmp_path):
    assert toys.failure(engine.submit(toys.count_devices, tmp_path / "devices")) is None
    assert (tmp_path / "devices").read_text() == "1"


@pytest.mark.slow
def test_a_call_that_kills_its_workers_fails(engine, tmp_path):
    assert isinstance(toys.failure(engine.submit(toys.die)), distributed.KilledWorker)
    assert toys.failure(engine.submit(toys.write, tmp_path / "after")) is None


@pytest.mark.slow
def test_a_scheduler_that_runs_and_then_dies(scheduler, tmp_path):
    address, process = scheduler
    engine = connect(f"dask:{address}", None, tmp_path)
    assert engine.workers is None
    assert [toys.failure(engine.submit(toys.write, tmp_path / str(i))) for i in range(4)] == [None] * 4
    with distributed.Client(address) as client:
        users = engine_of(client)
        assert toys.failure(users.submit(toys.write, tmp_path / "client")) is None
        users.close()
        engine.close()
        assert client.submit(toys.nothing, pure=False).result() is None  # neither close has ended the scheduler
    engine = connect(f"dask:{address}", None, tmp_path)
    task = engine.submit(toys.pid, tmp_path / "pid", 600)
    toys.wait((tmp_path / "pid").exists)
    process.kill()
    process.wait()
    assert toys.failure(task) is not None
    assert toys.failure(engine.submit(toys.nothing)) is not None
    engine.close()


def test_a_scheduler_that_does_not_answer_is_one_line(monkeypatch):
    monkeypatch.setattr("pgjax.executors.dask.PATIENCE", 1)
    for address in (f"tcp://127.0.0.1:{_free()}", "nonsense", "what://x:1"):
        with pytest.raises(ValueError, match="^on: no Dask scheduler answers at .* `dask scheduler`, .*$") as caught:
            connect(f"dask:{address}", None, None)
        assert "\n" not in str(caught.value)


def test_the_workers_of_a_running_scheduler_are_its_own():
    with pytest.raises(ValueError, match="workers: the scheduler at tcp://a:1 has its own; leave workers=2 out"):
        connect("dask:tcp://a:1", 2, None)

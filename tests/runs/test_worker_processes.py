"""Processes that share a run, as on a cluster: at once, killed, told to stop, or given their chunks by an engine."""

import concurrent.futures
import importlib.util
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import xarray

import pgjax
from pgjax.engine.chunks import read
from pgjax.engine.leases import Shared

pytestmark = pytest.mark.slow

LONG = 1600  # updates of a chunk that takes some seconds
SET = "--set hidden=4 num_steps={} num_envs={} eval_episodes=2 learning_rate=1e-3,1e-2 "


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def start(cache):
    """Starts `pgjax WORDS`; what is left of it is killed at the end of the test."""
    started = []

    def begin(words, **more):
        environment = os.environ | {"XDG_CACHE_HOME": str(cache), **more}
        environment["XLA_FLAGS"] = f"--xla_backend_optimization_level=0 {more.get('XLA_FLAGS', '')}"
        command = [sys.executable, "-m", "pgjax", *words.split()]
        started.append(subprocess.Popen(command, env=environment, stdout=-1, stderr=-2, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def command(out, updates=20, seeds=5, width=2):
    wide = f"--width {width} " if width else ""
    chosen = SET.format(*((64, 128) if updates == LONG else (4, 8)))
    return f"sweep a2c PolicyProbe-pgjax --seeds {seeds} --updates {updates} {wide}--out {out} {chosen}"


def ended(process, code=0):
    said = process.communicate(timeout=280)[0]
    assert process.returncode == code, said
    return said


def wait(condition, process):
    until = time.monotonic() + 200
    while not condition():
        assert process.poll() is None and time.monotonic() < until, process.communicate()[0]
        time.sleep(0.05)


def assert_identical(a, b):
    xarray.testing.assert_identical(*(pgjax.load(path).metrics.load() for path in (a, b)))
    assert read(a / "chunks.json").chunks == read(b / "chunks.json").chunks


def saved(path):
    return [int(place.name[7:]) for place in path.glob("chunks/*/update-*")]


@pytest.fixture(scope="module")
def one(tmp_path_factory, cache):
    """One process with one device, never disturbed: 10 lanes in 5 chunks."""
    out = tmp_path_factory.mktemp("one") / "run"
    words = [sys.executable, "-m", "pgjax", *command(out).split(), "--devices", "1"]
    flags = {"XDG_CACHE_HOME": str(cache), "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    subprocess.run(words, env=os.environ | flags, check=True, timeout=280)
    return out


@pytest.fixture(scope="module")
def long(tmp_path_factory, cache):
    """The same of chunks that take some seconds: two lanes in each of two chunks."""
    out = tmp_path_factory.mktemp("long") / "run"
    words = [sys.executable, "-m", "pgjax", *command(out, LONG, 2).split(), "--devices", "1"]
    flags = {"XDG_CACHE_HOME": str(cache), "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    subprocess.run(words, env=os.environ | flags, check=True, timeout=280)
    return out


def test_the_same_command_twice_at_once_is_one_run(one, start, tmp_path):
    """And `pgjax work` beside them; each goes on until all is done, and writes the same."""
    out = tmp_path / "run"
    first, second = (start(command(out)) for _ in range(2))
    wait((out / "config.json").exists, first)
    third = start(f"work {out}")
    assert ["written to" in ended(process) for process in (first, second, third)] == [True] * 3
    assert_identical(out, one)
    assert all([event.what for event in Shared(out).events(i)] == ["began", "ended"] for i in range(5))


@pytest.mark.parametrize("on", ["processes", "loky", "dask"])
def test_engines(one, start, tmp_path, on):
    if on != "processes" and importlib.util.find_spec({"dask": "distributed"}.get(on, on)) is None:
        pytest.skip(f"needs {on}")
    ended(start(f"{command(tmp_path / 'run')} --on {on} --workers 2"))
    assert_identical(tmp_path / "run", one)
    who = {event.who for i in range(5) for event in Shared(tmp_path / "run").events(i)}
    assert who and all(int(name.rpartition("-")[2]) != os.getpid() for name in who)


def test_a_process_pool_of_the_users(one, tmp_path):
    settings = {"hidden": (4,), "num_steps": 4, "num_envs": 8, "eval_episodes": 2, "learning_rate": [1e-3, 1e-2]}
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, spawn) as pool:
        options = {"seeds": 5, "updates": 20, "width": 2, "executor": pool, "progress": False}
        pgjax.run("a2c", "PolicyProbe-pgjax", settings=settings, out=tmp_path / "run", **options)
    assert_identical(tmp_path / "run", one)


def test_a_killed_worker_is_taken_over(long, start, tmp_path):
    out = tmp_path / "run"
    words = f"{command(out, LONG, 2)} --checkpoint 0 --devices 1"
    first = start(words)
    wait((out / "config.json").exists, first)
    second = start(f"work {out} --devices 1")
    wait(lambda: len(Shared(out).held()) == 2 and all((out / f"chunks/0000{i}").exists() for i in (0, 1)), second)
    first.kill()
    first.wait()
    lost = [i for i in Shared(out).held() if Shared(out).owner(i).endswith(f"-{first.pid}")]
    assert len(lost) == 1
    killed = time.monotonic()
    wait(lambda: len({event.who for event in Shared(out).events(lost[0])}) == 2, second)
    assert time.monotonic() - killed < 60
    ended(second)
    events = Shared(out).events(lost[0])
    assert [event.what for event in events] == ["began", "began", "ended"] and events[1].update > 0
    assert_identical(out, long)


@pytest.mark.parametrize("on", ["", " --on processes --workers 2"])
def test_sigterm_saves_and_ends_with_143_and_the_same_command_goes_on(long, start, tmp_path, on):
    out = tmp_path / "run"
    words = command(out, LONG, 2) + on
    first = start(words)
    wait(lambda: saved(out) and len(Shared(out).held()) == 2, first)
    first.send_signal(signal.SIGTERM)
    assert "goes on" in ended(first, 143)
    assert not Shared(out).held() and json.loads((out / "summary.json").read_text())["interrupted"]
    events = [Shared(out).events(i)[-1] for i in range(2)]
    assert all(event.what == "stopped" and event.update < LONG for event in events)
    assert f"goes on with the run in {out}" in ended(start(words))
    assert_identical(out, long)
    assert all(Shared(out).events(i)[-2].update == events[i].update for i in range(2))


def test_a_worker_that_is_told_to_stop_leaves_its_chunk_to_others(long, start, tmp_path):
    out = tmp_path / "run"
    first = start(command(out, LONG, 2) + " --devices 1")
    wait((out / "config.json").exists, first)
    second = start(f"work {out} --devices 1")
    wait(lambda: len(Shared(out).held()) == 2, second)
    second.send_signal(signal.SIGTERM)
    ended(second, 143)
    ended(first)
    assert_identical(out, long)


def test_widths_and_order_do_not_depend_on_the_number_of_devices(start, tmp_path):
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    for devices in (1, 8):
        ended(start(command(tmp_path / str(devices), width=None) + f" --devices {devices}", **flags))
    assert_identical(tmp_path / "1", tmp_path / "8")
    assert len(read(tmp_path / "8" / "chunks.json").chunks) > 1

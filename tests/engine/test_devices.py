"""Many devices and many processes give what one device gives, bit for bit where each runs chunks of the same width."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import xarray

pytestmark = pytest.mark.slow

SWEEP = (
    "sweep a2c PolicyProbe-pgjax --seeds 5 --updates 40 --checkpoint 0 "
    "--set hidden=4 num_steps=4 num_envs=8 eval_episodes=2 learning_rate=1e-3,1e-2"
)


def start(words, devices, cache):
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    environment = {**os.environ, "XLA_FLAGS": flags, "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-m", "pgjax", *words.split()]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(words, devices, cache):
    process = start(words, devices, cache)
    said = process.communicate(timeout=240)[0]
    assert process.returncode == 0, said
    return said


def metrics(path):
    return xarray.open_zarr(path / "metrics.zarr", consolidated=False).load()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def one(tmp_path_factory, cache):
    out = tmp_path_factory.mktemp("one") / "run"
    run(f"{SWEEP} --width 2 --out {out}", 1, cache)
    return out


def test_eight_devices(one, tmp_path, cache):
    run(f"{SWEEP} --width 2 --out {tmp_path / 'run'}", 8, cache)
    xarray.testing.assert_identical(metrics(tmp_path / "run"), metrics(one))


def test_two_processes_of_two_devices(one, tmp_path, cache):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = f"--distributed --coordinator 127.0.0.1:{port} --processes 2 --out {tmp_path / 'run'}"
    processes = [start(f"{SWEEP} --width 2 {together} --process {i}", 2, cache) for i in range(2)]
    said = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    xarray.testing.assert_identical(metrics(tmp_path / "run"), metrics(one))
    # Each trained its share: both ran chunks, and no chunk is missing.
    assert "written to" in said[0] and "written to" not in said[1]


def test_one_large_agent_whose_environments_are_shared(tmp_path, cache):
    """The gradient is that of all environments, summed in another order: equal within rounding, not to the bit."""
    words = "sweep a2c PolicyProbe-pgjax --updates 3 --set hidden=4 num_steps=4 num_envs=8 eval_episodes=2"
    run(f"{words} --out {tmp_path / 'one'}", 1, cache)
    run(f"{words} --shard envs --out {tmp_path / 'four'}", 4, cache)
    a, b = metrics(tmp_path / "one"), metrics(tmp_path / "four")
    for name in ("loss", "grad_norm", "entropy", "episode_return"):
        np.testing.assert_allclose(a[name], b[name], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(a.env_steps, b.env_steps)


def test_environments_that_cannot_be_shared_evenly_are_refused(tmp_path, cache):
    words = "sweep a2c PolicyProbe-pgjax --updates 3 --shard envs --set num_envs=6 --out"
    process = start(f"{words} {tmp_path / 'run'}", 4, cache)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 2 and "num_envs=6 can't be split over 4 devices" in said
    assert not (tmp_path / "run").exists()

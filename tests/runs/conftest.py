"""What tests of workers share: programs that are compiled once, and the run of one process."""

import jax
import pytest
import workers

from pgjax.engine import machine


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory):
    """The same programs again and again, compiled once."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    for name, value in zip(names, (str(tmp_path_factory.mktemp("cache")), 0.0), strict=True):
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def threads(monkeypatch):
    """What the command line says of threads is forgotten after each test."""
    monkeypatch.setenv("NPROC", str(machine.threads()))


@pytest.fixture(scope="module")
def one(compiled_once):
    """The run of one process, never disturbed: 10 lanes in 5 chunks."""
    return workers.sweep()

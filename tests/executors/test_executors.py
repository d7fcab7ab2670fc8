"""What every engine does, and what is said of one that can't be had."""

import concurrent.futures
import pathlib
import subprocess
import sys
import types

import pytest
import toys

from pgjax.executors import KINDS, connect, engine_of, slurm

FOLDER = pathlib.Path("no/such/folder")
PACKAGES = {"loky": "loky", "dask": "distributed", "slurm": "submitit", "mpi": "mpi4py", "ray": "ray"}


@pytest.mark.parametrize(
    "on, workers, said",
    [
        ("dsk", None, "on: unknown engine 'dsk'; did you mean 'dask'?"),
        ("processes", 0, "workers must be at least 1, got 0"),
        ("processes:4", None, "on: processes has nothing after its name, got 'processes:4'"),
        ("mpi:", None, "on: mpi has nothing after its name, got 'mpi:'"),
    ],
)
def test_what_can_not_be_connected_is_one_line(on, workers, said):
    with pytest.raises(ValueError) as caught:
        connect(on, workers, FOLDER)
    assert str(caught.value) == said


@pytest.mark.parametrize("kind", PACKAGES)
def test_a_missing_package_is_named_with_the_command_that_installs_it(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGES[kind], None)
    monkeypatch.setattr("pgjax.dependencies._installed", lambda module: False)
    with pytest.raises(ImportError) as caught:
        connect(kind, None, FOLDER)
    assert str(caught.value) == (
        f'on: {kind}: the package {PACKAGES[kind]} isn\'t installed; pip install -e ".[{kind}]"'
    )


def test_every_kind_is_known_to_connect():
    assert set(KINDS) == {"processes", *PACKAGES}


def test_any_executor_is_an_engine(tmp_path):
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        engine = engine_of(threads)
        assert (engine.kind, engine.workers) == ("ThreadPoolExecutor", 3)
        assert toys.failure(engine.submit(toys.write, tmp_path / "a")) is None
        assert str(toys.failure(engine.submit(toys.fail))) == "a call of this kind fails"
        engine.renew()
        engine.close()
        assert engine_of(engine) is engine
        assert toys.failure(engine.submit(toys.nothing)) is None  # it is still its user's
    assert (tmp_path / "a").read_text() == "done"


def test_a_cancelled_call_has_failed():
    future = concurrent.futures.Future()
    future.cancel()
    task = engine_of(types.SimpleNamespace(submit=lambda function: future)).submit(toys.nothing)
    assert task.done() and isinstance(task.exception(), concurrent.futures.CancelledError)


@pytest.mark.parametrize("wrong", ["dask", 3, None, concurrent.futures.ThreadPoolExecutor])
def test_what_is_no_executor_is_refused(wrong):
    with pytest.raises(TypeError, match="executor: give an object with a method submit"):
        engine_of(wrong)


def test_mpi_says_how_it_is_started():
    pytest.importorskip("mpi4py")
    code = "import pathlib; from pgjax.executors import connect; connect('mpi', 3, pathlib.Path())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "start it as mpiexec -n 4 python -m mpi4py.futures -m pgjax ..." in done.stderr.splitlines()[-1]


def test_options_of_slurm():
    given = slurm.options("partition=gpu,time=5,reservation=mine,setup=module load x", ["partition", "time", "setup"])
    assert (given["partition"], given["time"]) == ("gpu", 5)
    assert "SRUN_CPUS_PER_TASK" in given["setup"][0] and given["setup"][-1] == "module load x"
    assert given["additional_parameters"]["reservation"] == "mine" and given["additional_parameters"]["requeue"]


@pytest.mark.parametrize(
    "where, said",
    [
        ("gpu", "on: slurm takes NAME=VALUE,NAME=VALUE, such as partition=gpu,time=60; got 'gpu'"),
        ("time=1:00:00", "on: slurm:time is a whole number of minutes from 1, got '1:00:00'"),
    ],
)
def test_wrong_options_of_slurm_are_one_line(where, said):
    with pytest.raises(ValueError) as caught:
        slurm.options(where, ["time"])
    assert str(caught.value) == said

"""SLURM: jobs that are requeued and go on, on a real one where there is one, and on submitit's imitation."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest
import toys

from pgjax.executors import connect, engine_of, slurm

submitit = pytest.importorskip("submitit")
cloudpickle = pytest.importorskip("cloudpickle")
HERE = shutil.which("scontrol") and subprocess.run(["scontrol", "ping"], capture_output=True).returncode == 0
real = pytest.mark.skipif(not HERE, reason="needs a SLURM that answers")


@pytest.fixture(autouse=True)
def by_value(monkeypatch):
    """Jobs are other programs, which don't find this folder's modules."""
    cloudpickle.register_pickle_by_value(toys)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setattr(slurm, "LOOK", 0.5)
    yield
    cloudpickle.unregister_pickle_by_value(toys)


def out(task):
    """The job's own output, for whoever reads a failed test."""
    return f"{task.exception()}\n{task.job.stderr()}"


@pytest.fixture
def imitation(tmp_path):
    executor = submitit.LocalExecutor(tmp_path / "jobs", max_num_timeout=10)
    executor.update_parameters(signal_delay_s=12)
    return engine_of(executor)


def test_the_imitation_runs_calls_and_tells_failures(imitation, tmp_path):
    good, bad, dead = (imitation.submit(*call) for call in [(toys.write, tmp_path / "a"), (toys.fail,), (toys.die,)])
    assert toys.failure(good) is None and (tmp_path / "a").exists(), out(good)
    assert repr(toys.failure(bad)) == "ValueError('a call of this kind fails')" and "Traceback" in bad.job.stderr()
    assert "ended without a result; see" in str(toys.failure(dead))


def goes_on(path):
    """Hears SIGTERM once, saves and returns; the second time there is nothing left."""
    if not path.exists():
        toys.until_told(path)


def deaf(path):
    """Begins, and listens to no signal; the second time there is nothing left."""
    if not path.exists():
        toys.pid(path, 60)


@pytest.mark.slow
@pytest.mark.parametrize("function", [goes_on, deaf])
def test_a_call_that_is_told_to_stop_is_requeued(function, imitation, tmp_path):
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    task = imitation.submit(function, tmp_path / "work")
    began = tmp_path / ("work.began" if function is goes_on else "work")
    toys.wait(began.exists)
    (job,) = {int(x) for x in subprocess.run(["pgrep", "-P", task.job.job_id], capture_output=True).stdout.split()}
    os.kill(job, signal.SIGUSR2)
    assert toys.failure(task) is None, out(task)
    assert "Requeued job" in task.job.stdout() and (tmp_path / "work").exists()


@real
def test_calls_run_and_their_failures_are_told(tmp_path):
    engine = connect("slurm:time=1,cpus_per_task=2,comment=mine", 1, tmp_path)
    good, bad, dead = (engine.submit(*call) for call in [(_look, tmp_path / "a"), (toys.fail,), (toys.die,)])
    assert engine.workers == 1 and toys.failure(good) is None, out(good)
    assert (tmp_path / "a").read_text() == "1 2"
    assert "a call of this kind fails" in str(toys.failure(bad))
    assert "ended without a result; see" in str(toys.failure(dead))
    assert list((tmp_path / "work" / "slurm").glob("*_log.out"))


def _look(path):
    toys.write(path, os.environ["SRUN_CPUS_PER_TASK"])


@real
def test_what_waits_is_taken_back_and_nothing_else(tmp_path):
    engine = connect("slurm:time=1,exclusive=true", 1, tmp_path)
    runs = engine.submit(toys.pid, tmp_path / "pid", 4)
    toys.wait((tmp_path / "pid").exists)
    waits = engine.submit(toys.write, tmp_path / "never")
    engine.close(cancel=True)
    assert "ended without a result" in str(toys.failure(waits))
    assert toys.failure(runs) is None and not (tmp_path / "never").exists()


@real
@pytest.mark.parametrize(
    "where, said",
    [
        ("partitoin=gpu", "sbatch: unrecognized option '--partitoin=gpu'"),
        ("partition=nowhere", "sbatch: error: invalid partition specified: nowhere"),
        ("gpus_per_node=1", "sbatch: error: Invalid generic resource (gres) specification"),
    ],
)
def test_options_that_slurm_refuses_are_one_line(where, said, tmp_path):
    with pytest.raises(ValueError) as caught:
        connect(f"slurm:{where}", 1, tmp_path)
    assert str(caught.value) == f"on: slurm:{where}: {said}"


@real
def test_a_job_that_slurm_refuses_is_one_line(tmp_path):
    engine = connect("slurm:mem=999999G", 1, tmp_path)  # as if no node were free now
    with pytest.raises(ValueError, match="^on: slurm: the job wasn't taken: sbatch: error: .* is not available$"):
        engine.submit(toys.nothing)


@real
def test_a_controller_that_is_down_is_one_line(tmp_path, monkeypatch):
    text = pathlib.Path(os.environ["SLURM_CONF"]).read_text().replace("SlurmctldPort=", "SlurmctldPort=2")
    (tmp_path / "slurm.conf").write_text(text)
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    with pytest.raises(ValueError, match=r"^on: SLURM doesn't answer \(.* is DOWN\); see `scontrol ping`$"):
        connect("slurm", 1, tmp_path)


def test_a_machine_without_slurm_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="^on: slurm needs the commands sbatch and srun, which aren't here; .*$"):
        connect("slurm", 1, tmp_path)

"""What goes wrong as workers share a run: chunks that fail, machines that differ, a full disk; and then it goes on."""

import concurrent.futures
import signal

import numpy as np
import pytest
from workers import SET, TINY, WORDS, assert_identical, begun, failing, sweep, what, workers

import pgjax
from pgjax.cli import main
from pgjax.engine import machine, progress, trainer
from pgjax.engine.chunks import read
from pgjax.engine.leases import Shared
from pgjax.engine.ledger import DEATHS
from pgjax.errors import ChunkError
from pgjax.runs import worker

pytestmark = pytest.mark.usefixtures("compiled_once", "threads")


@pytest.mark.slow
def test_the_same_command_again_goes_on_and_another_is_refused(one, tmp_path, monkeypatch, capsys):
    command, out = WORDS + f"--out {tmp_path / 'run'} " + SET, tmp_path / "run"
    with monkeypatch.context() as broken:
        broken.setattr(trainer.Engine, "train", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        assert main.main(command.split()) == 1
    assert main.main(command.split()) == 0
    assert f"goes on with the run in {out}" in capsys.readouterr().err
    assert_identical(pgjax.load(out), one)
    tried = failing(monkeypatch, None)
    assert main.main(command.split()) == 0 and not tried  # it is done: the table at once
    said = capsys.readouterr()
    assert "goes on" in said.err and "learning_rate=0.01" in said.out
    for change, difference in {
        "--seeds 6": "seeds is [0, 1, 2, 3, 4] there and [0, 1, 2, 3, 4, 5] here",
        "--updates 40": "groups[0].updates is 20 there and 40 here",
        "--width 4": "width is 2 there and 4 here",
    }.items():
        words = command.split()
        words[words.index(change.split()[0]) + 1] = change.split()[1]
        assert main.main(words) == 2
        said = capsys.readouterr().err.strip()
        assert f"holds another run: {difference}; choose another folder" in said and "\n" not in said


def test_a_chunk_that_fails_three_times_is_named_and_the_rest_goes_on(one, tmp_path, monkeypatch, capsys):
    command, out = WORDS + f"--out {tmp_path / 'run'} " + SET, tmp_path / "run"
    with monkeypatch.context() as broken:
        tried = failing(broken, 1)
        assert main.main(command.split()) == 1
        assert sorted(tried) == [0, 1, 1, 1, 2, 3, 4]
    said = capsys.readouterr().out
    assert "chunk 1" in said and "ZeroDivisionError: a bad world" in said
    assert np.isfinite(pgjax.load(out).metrics.loss.sel(learning_rate=1e-2)).sum() == 5 * 20
    assert "Traceback" in (out / "work" / "failed" / "00001.3").read_text()
    assert main.main(command.split()) == 0  # tried anew
    assert_identical(pgjax.load(out), one)
    assert what(out, 1) == ["began", "failed"] * 3 + ["began", "ended"]


@pytest.mark.parametrize("executor", [None, 2])
def test_a_failure_in_python_names_the_chunk_too(tmp_path, monkeypatch, executor):
    failing(monkeypatch, 0)
    with pytest.raises(ChunkError, match=r"(?s)chunk 0.*a bad world"):
        pool = executor and concurrent.futures.ThreadPoolExecutor(executor)
        sweep(out=tmp_path / "run", executor=pool)
    assert Shared(tmp_path / "run").done() == {1, 2, 3, 4}


def test_what_needs_a_chunk_that_failed_is_left(tmp_path, monkeypatch):
    failing(monkeypatch, 1)
    with pytest.raises(ChunkError):
        sweep(out=tmp_path / "run", halving=2)
    assert len(read(tmp_path / "run" / "chunks.json").chunks) == 5  # no rung is decided without all of the one before


def test_a_chunk_whose_workers_die_again_and_again_is_given_up(one, tmp_path, monkeypatch):
    claims = Shared(begun(tmp_path / "run"))
    for _ in range(DEATHS):
        claims.note(1, "began", 0)
    with pytest.raises(ChunkError, match=f"{DEATHS} workers died at update 0, before they could save it"):
        sweep(out=tmp_path / "run")
    assert claims.done() == {0, 2, 3, 4}
    assert_identical(sweep(out=tmp_path / "run"), one)


def test_another_kind_of_machine_is_refused_for_the_folder(tmp_path, monkeypatch, capsys):
    out = begun(tmp_path / "run")
    workers(out, 1)
    there = machine.signature()
    monkeypatch.setattr(machine, "signature", lambda: {**there, "jaxlib": "0.0.1"})
    assert main.main(["work", str(out)]) == 2
    said = capsys.readouterr().err.strip()
    assert f"jaxlib 0.0.1 here and {there['jaxlib']} there" in said and "\n" not in said


def test_a_task_on_another_kind_of_machine_ends_the_run_in_one_line(tmp_path, monkeypatch):
    worker.task(str(begun(tmp_path / "run")), [], None)  # plans
    there = machine.signature()
    monkeypatch.setattr(machine, "signature", lambda: {**there, "device": "toaster"})
    monkeypatch.setattr(worker, "_workers", {})
    with concurrent.futures.ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="device toaster here"):
        sweep(out=tmp_path / "run", executor=pool)


def test_a_folder_that_is_not_there_or_cannot_be_made(tmp_path, capsys):
    assert main.main(["work", str(tmp_path / "none")]) == 2
    assert "no folder" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main.main((WORDS + f"--out {tmp_path / 'file' / 'run'} " + SET).split()) == 2
    said = capsys.readouterr().err.strip()
    assert "can't make folder" in said and "\n" not in said


@pytest.mark.slow
def test_a_segment_that_takes_too_long_is_cut_and_nothing_differs(tmp_path, monkeypatch):
    """And who goes on from between two ends of its own segments makes shorter ones."""
    options = {"updates": 160, "seeds": 1, "settings": {**TINY, "learning_rate": [1e-2, 1e-3]}}
    whole, update, calls = sweep(**options), progress.Progress.update, []

    def interrupt(self, *arguments):
        update(self, *arguments)
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)

    assert whole.schedule.segments == [4]
    with monkeypatch.context() as slow:
        slow.setattr(trainer, "LONGEST", 0.0)
        slow.setattr(progress.Progress, "update", interrupt)
        stopped = sweep(out=tmp_path / "run", **options)
    assert stopped.interrupted and stopped.archive.updates(0)[-1] == 5
    assert_identical(workers(tmp_path / "run", 1), whole)


@pytest.mark.slow
def test_chunks_that_several_train_at_once_are_the_same(one, tmp_path, monkeypatch):
    """As where a worker was taken for dead that was only slow: each replaces the checkpoints of the other."""

    class Nothing:
        def release(self):
            pass

    monkeypatch.setattr(Shared, "claim", lambda self, number: None if number in self.done() else Nothing())
    monkeypatch.setattr(Shared, "held", lambda self: set())
    assert_identical(workers(begun(tmp_path / "run"), 3), one)
    tried = [what(tmp_path / "run", number) for number in range(5)]
    assert any(events.count("began") > 1 for events in tried)
    assert all({*events} == {"began", "ended"} for events in tried)

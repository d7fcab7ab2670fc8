"""Workers that meet what rarely happens: a schedule that grew, a stop at the wrong moment, a folder that changed."""

import concurrent.futures
import itertools
import json
import shutil
import signal
import subprocess
import sys
import threading

import pytest
from workers import TINY, assert_identical, begun, sweep

import pgjax
from pgjax.engine import chunks, crew, machine, trainer
from pgjax.runs import jobs, start, worker
from pgjax.runs.execute import concluded, new_engine, opened

pytestmark = pytest.mark.usefixtures("compiled_once", "threads")


def test_a_process_that_has_not_seen_the_last_rung_writes_what_is_there(tmp_path):
    out = tmp_path / "run"
    settings = {**TINY, "learning_rate": [1e-3, 3e-3, 1e-2, 3e-2]}
    run = sweep(settings=settings, seeds=2, halving=2, out=out)
    job = jobs.resumed_job(out)
    engine = new_engine(job)
    board = opened(job, engine, crew.Progress(shown=False))
    first = [chunk for chunk in board.schedule.chunks if chunk.stage == 0]
    assert len(first) < len(board.schedule.chunks)
    board.adopt(board.schedule._replace(chunks=first))
    late, again = concluded(job, engine.archive, board, engine.clock.spent)
    assert not again and not late.interrupted
    assert_identical(pgjax.load(out), run)


def test_a_process_that_has_not_seen_an_extension_writes_what_is_there(tmp_path):
    out = tmp_path / "run"
    sweep(out=out)
    job = jobs.resumed_job(out)
    engine = new_engine(job)
    board = opened(job, engine, crew.Progress(shown=False))
    run = pgjax.extend(out, updates=40, seeds=6, progress=False)
    concluded(job, engine.archive, board, engine.clock.spent)
    assert_identical(pgjax.load(out), run)


def test_a_stop_while_a_shorter_segment_is_compiled_is_saved(tmp_path, monkeypatch):
    path = begun(tmp_path / "run", {**TINY, "learning_rate": 1e-3}, seeds=1, updates=80, checkpoint=1e9)
    monkeypatch.setattr(trainer, "LONGEST", 1e-9)
    job = jobs.resumed_job(path)
    engine, bar, stop = new_engine(job), crew.Progress(shown=False), threading.Event()
    board = opened(job, engine, bar)
    bar.start(crew.sizes(board))
    compile_ = engine.compile

    def stopped(g, width, length, team=0):
        if length == 1:
            stop.set()
        return compile_(g, width, length, team)

    monkeypatch.setattr(engine, "compile", stopped)
    assert not engine.train(board.schedule, 0, 0, (), bar, stop)
    assert engine.archive.updates(0) == [2]


def test_a_process_works_for_the_folder_as_it_is_now(tmp_path):
    """Dask's workers stay when a run is made longer, or another run takes its folder."""
    out = tmp_path / "run"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        sweep(out=out, executor=pool)
        job = jobs.extended_job(out, updates=40, seeds=6)
        run = start.finish(job, False, pool)
        expected = pgjax.extend(sweep(out=tmp_path / "other").path, updates=40, seeds=6, progress=False)
        assert_identical(run, expected)

        shutil.rmtree(out)
        assert_identical(sweep(out=out, executor=pool), sweep())
        shutil.rmtree(out)
        rates = {**TINY, "learning_rate": [2e-3, 2e-2]}
        assert_identical(sweep(rates, out=out, executor=pool), sweep(rates))


@pytest.mark.parametrize("error", [FileNotFoundError(2, "no such world"), MemoryError("too large")])
def test_a_worker_whose_machine_fails_again_and_again_ends_the_run(tmp_path, monkeypatch, error):
    tried = itertools.count()

    def wrong(*_):
        if next(tried) > 200:
            raise KeyboardInterrupt
        raise error

    monkeypatch.setattr(trainer.Engine, "train", wrong)
    with concurrent.futures.ThreadPoolExecutor(1) as pool, pytest.raises((ValueError, OSError, MemoryError)):
        sweep(out=tmp_path / "run", executor=pool)
    assert next(tried) < 100


def test_a_chunk_is_given_back_although_the_disk_is_full(tmp_path, monkeypatch):
    path = begun(tmp_path / "run")
    job = jobs.resumed_job(path)
    engine = new_engine(job)
    board = opened(job, engine, crew.Progress(shown=False))
    number = board.take(threading.Event())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(board.claims, "finish", full)
    with pytest.raises(OSError):
        board.release(number, True)
    assert not board.mine and not board.claims.held()


def test_workers_take_code_that_was_edited_where_the_user_says_so(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "reviewed_loss.py"
    file.write_text("def mine(now, batch, *, beta=1.0):\n    return -now.log_prob * batch.advantage * beta, {}\n")
    import reviewed_loss

    path = start.new_job(
        "a2c", "PolicyProbe-pgjax", loss=reviewed_loss.mine, settings=TINY, out=tmp_path / "run", seeds=1, updates=20
    ).path
    file.write_text(file.read_text() + "# edited\n")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with pytest.raises(ValueError, match="has changed"):
            pgjax.resume(path, progress=False, executor=pool)
        assert not pgjax.resume(path, progress=False, executor=pool, edited=True).interrupted


def test_a_signal_while_workers_plan_ends_the_program_by_it(tmp_path):
    heard = []

    class Never(concurrent.futures.Executor):
        def submit(self, *_):
            signal.raise_signal(signal.SIGTERM)
            return concurrent.futures.Future()

    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with pytest.raises(KeyboardInterrupt):
            sweep(out=tmp_path / "run", executor=Never())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_a_run_of_an_older_pgjax_is_said_to_round_otherwise(tmp_path, capsys):
    out = tmp_path / "run"
    sweep(out=out)
    text = json.loads((out / "chunks.json").read_text())
    del text["machine"], text["bytes"]
    (out / "chunks.json").write_text(json.dumps(text))
    capsys.readouterr()
    pgjax.resume(out, progress=False)
    assert "older pgjax" in capsys.readouterr().err


def test_the_same_command_uses_the_threads_of_the_run(tmp_path, monkeypatch):
    from pgjax.cli.main import main

    asked = []
    monkeypatch.setattr(machine, "use_every_core", asked.append)
    main(["train", "a2c", "NoSuchWorld", "--out", str(tmp_path / "run")])
    assert asked == [str(tmp_path / "run")]


def test_who_gives_out_the_work_may_be_another_machine(tmp_path, capsys):
    out = tmp_path / "run"
    begun(out)
    worker.task(str(out), [], None)
    schedule = chunks.read(out / "chunks.json")
    chunks.write(out / "chunks.json", schedule._replace(machine={**schedule.machine, "device": "gpu there"}))
    capsys.readouterr()

    class Never(concurrent.futures.Executor):
        def submit(self, *_):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pgjax.resume(out, progress=False, executor=Never())
    assert "rounds otherwise" not in capsys.readouterr().err


TWICE = """
import os, signal, sys, threading, time
os.environ["JAX_NUM_CPU_DEVICES"] = "2"
from pgjax.cli.main import main

def twice():
    while not os.path.isdir(sys.argv[1] + "/chunks"):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=twice, daemon=True).start()
words = "train ppo CartPole-v1 --seeds 8 --updates 4000 --set num_envs=64 num_steps=128 --out"
sys.exit(main([*words.split(), sys.argv[1]]))
"""


@pytest.mark.slow
def test_a_second_ctrl_c_ends_a_program_whose_other_threads_train(tmp_path):
    """XLA's code, which a thread is in, doesn't bear that Python ends: the program would abort with 134."""
    run = [sys.executable, "-c", TWICE, str(tmp_path / "run")]
    ended = subprocess.run(run, capture_output=True, text=True, timeout=300)
    assert (ended.returncode, "FATAL" in ended.stderr) == (130, False), ended.stderr

"""A lane is a lane, whoever trains it: not one bit depends on how many work at a run, where, and through what.

Workers are threads here; test_worker_processes.py has real processes, test_worker_failures.py what goes wrong.
"""

import concurrent.futures
import json
import types

import pytest
import xarray
from workers import TINY, assert_identical, begun, sweep, what, workers

from pgjax.config import Config
from pgjax.engine import memory, stages
from pgjax.engine.board import Board
from pgjax.engine.chunks import Chunk, Schedule
from pgjax.engine.leases import Alone, Shared
from pgjax.engine.ledger import ATTEMPTS

pytestmark = pytest.mark.usefixtures("compiled_once", "threads")


def test_three_workers_are_one_process_and_no_chunk_is_trained_twice(one, tmp_path):
    assert_identical(workers(begun(tmp_path / "run"), 3), one)
    assert [what(tmp_path / "run", number) for number in range(5)] == [["began", "ended"]] * 5
    assert Shared(tmp_path / "run").done() == set(range(5)) and not Shared(tmp_path / "run").held()
    assert not Shared(tmp_path / "run").told()


def test_a_worker_of_a_folder_that_is_done_has_nothing_to_do(one, tmp_path):
    workers(begun(tmp_path / "run"), 1)
    assert_identical(workers(tmp_path / "run", 2), one)
    assert what(tmp_path / "run", 0) == ["began", "ended"]


def test_any_executor(one, tmp_path):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        run = sweep(out=tmp_path / "run", executor=pool)
        assert_identical(run, one)
        assert not pool.submit(int).exception()  # it stays its user's
    assert what(tmp_path / "run", 4) == ["began", "ended"]


def test_an_executor_needs_a_folder_and_a_method_submit(tmp_path):
    with pytest.raises(ValueError, match="executor: its workers need a folder that they see; give out"):
        sweep(executor=concurrent.futures.ThreadPoolExecutor(1))
    with pytest.raises(TypeError, match="give an object with a method submit"):
        sweep(executor=7, out=tmp_path / "run")


@pytest.mark.slow
def test_what_cannot_be_imported_is_sent(tmp_path):
    pytest.importorskip("cloudpickle")
    half = 0.5

    def loss(now, batch):
        return -half * now.log_prob * batch.advantage, {}

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        there = sweep(loss=loss, out=tmp_path / "run", executor=pool)
    xarray.testing.assert_identical(there.metrics, sweep(loss=loss).metrics)


def test_workers_find_the_folder_from_wherever_they_are(one, tmp_path, monkeypatch):
    """As a worker of Dask does, which was started in another place."""
    monkeypatch.chdir(tmp_path)

    def submit(function, *arguments):
        with monkeypatch.context() as moved:
            moved.chdir("/")
            function(*arguments)
        done = concurrent.futures.Future()
        done.set_result(None)
        return done

    assert_identical(sweep(out="run", executor=types.SimpleNamespace(submit=submit)), one)


@pytest.mark.slow
def test_halving_waits_for_its_rungs_and_decides_as_one_process_does(tmp_path):
    options = {"halving": 2, "seeds": 2, "settings": {**TINY, "learning_rate": [1e-30, 1e-1, 1e-2, 1e-3]}}
    alone, three = sweep(**options), workers(begun(tmp_path / "run", **options), 3)
    assert_identical(three, alone)
    assert json.loads(json.dumps(alone.summary["halving"])) == three.summary["halving"]
    assert len(three.summary["halving"]) == 2
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        assert_identical(sweep(out=tmp_path / "tasks", executor=pool, **options), alone)


@pytest.mark.slow
def test_a_search(tmp_path):
    from pgjax.sweeps.search import Range, sample

    settings = sample({**TINY, "learning_rate": Range("log", 1e-4, 1e-1)}, 4, "sobol", 0)
    assert_identical(workers(begun(tmp_path / "run", settings), 2), sweep(settings))


def test_widths_do_not_depend_on_the_number_of_devices():
    cpu = types.SimpleNamespace(platform="cpu")
    made = types.SimpleNamespace(bytes=1e6, idle=0.0)

    def width(lanes, devices, host=None):
        group = types.SimpleNamespace(env=types.SimpleNamespace(host=host), config=Config(num_envs=16))
        plan = types.SimpleNamespace(groups=[group])
        engine = types.SimpleNamespace(plan=plan, devices=[cpu] * devices, compile=lambda *_: made)
        return stages.fitting(engine, 0, lanes, 1, None)

    for lanes in (1, 5, 64, 1000):
        assert {width(lanes, n) for n in (1, 2, 8)} == {memory.share(lanes, [cpu])}
    # Of environments stepped in Python a chunk has 128, if there are so many.
    assert [width(lanes, 2, host=list) for lanes in (1, 5, 64, 1000)] == [1, 5, 8, 125]


def test_the_longest_comes_first_and_none_before_what_it_begins_from():
    a, b = (0, 5), (1, 5)
    chunks = [Chunk(0, 0, 0, 2, (a,)), Chunk(0, 0, 0, 3, (b,)), Chunk(0, 1, 2, 9, (a,)), Chunk(0, 1, 3, 4, (b,))]
    board = Board(Schedule([1], [1], [5], [9], chunks), Alone(), lambda c: float(c.last - c.first), lambda x: x)
    assert board.left() == ([2, 1, 0, 3], [1, 0])
    board.claims.finish(0)
    assert board.left() == ([2, 1, 3], [2, 1])  # though chunk 1 has not come to its end
    board.claims.failures = lambda: {1: ATTEMPTS}
    assert board.left() == ([2], [2])

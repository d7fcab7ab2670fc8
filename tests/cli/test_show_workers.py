"""`pgjax show` says who works where, what became of each chunk and how long it will take, and writes nothing."""

import json
import math
import os
import shutil
import socket
import time

import numpy as np
import pytest

import pgjax
from pgjax.cli import main, watch
from pgjax.engine import crew, progress
from pgjax.engine.clock import Pace
from pgjax.engine.leases import Shared
from pgjax.engine.ledger import ATTEMPTS, Ledger
from pgjax.engine.progress import Progress, Size
from pgjax.engine.statuses import Status, statuses
from pgjax.engine.trainer import Engine
from pgjax.errors import ChunkError

TINY = {"hidden": (4,), "num_steps": 4, "num_envs": 2, "eval_episodes": 2}


def sweep(out):
    return pgjax.run("a2c", "PolicyProbe-pgjax", seeds=8, updates=20, width=2, settings=TINY, out=out, progress=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """4 chunks of 2 lanes, 20 updates each."""
    return sweep(tmp_path_factory.mktemp("whole") / "run").path


@pytest.fixture
def begun(whole, tmp_path, monkeypatch):
    """The same run as it was before anybody trained; the time stands still."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    shutil.copytree(whole, tmp_path / "run", ignore=shutil.ignore_patterns("work", "chunks", "summary.json"))
    return tmp_path / "run"


def shown(*words, capsys):
    code = main.main(["show", *map(str, words)])
    return code, capsys.readouterr().out


def content(folder):
    return {str(place): place.stat().st_mtime_ns for place in folder.rglob("*")}


def worker(folder, who, ago=0.0, chunks=(), **said):
    """A process of another machine that said something so many seconds ago; its claims."""
    claims, now = Shared(folder), time.time()
    claims.who = who
    rates = {"updates_per_second": 4.0, "steps_per_second": 32.0, "work_per_second": 32.0}
    status = {"began": now - 600, "time": now - ago, "device": "gpu:0 (NVIDIA H200)", "chunks": dict(chunks), **rates}
    claims.tell({**status, "episode_return": 1.0, "failed_lanes": 0, **said})
    for number in dict(chunks):
        claim(folder, who, number)
    return claims


def claim(folder, who, number):
    host, _, pid = who.rpartition("-")
    (folder / "work" / "claims" / f"{number:05}").write_text(f"pid={pid}\nhost={host}\n")


def give_up(folder, number):
    claims = Shared(folder)
    for _ in range(ATTEMPTS):
        claims.fail(number, "ValueError: the world is flat")


def test_nothing_is_written(whole, begun, capsys):
    before = content(whole), content(begun)
    for folder in (whole, begun):
        assert shown(folder, capsys=capsys)[0] == 0
    assert (content(whole), content(begun)) == before


def test_a_run_that_nobody_has_worked_at(begun, capsys):
    said = shown(begun, capsys=capsys)[1]
    assert "0 of 4 chunks done, 4 waiting" in said and f"not ended; `pgjax resume {begun}` goes on" in said
    assert "worker" not in said


def test_who_works_where(begun, capsys):
    worker(begun, "node1-7", 3, {1: 5}).finish(0)
    claim(begun, "node1-7", 2)  # since it spoke
    said = shown(begun, capsys=capsys)[1]
    assert "1 of 4 chunks done, 2 at work, 1 waiting" in said and "1 worker\n" in said.replace(" \n", "\n").replace(
        "  ", ""
    )
    assert "node1-7" in said and "NVIDIA H200" in said and "1: 5 of 20" in said and "2: 0 of 20" in said
    assert "3 s ago" in said and "not ended" not in said
    # (15 + 20 + 20) updates of 2 lanes of 2 environments and 4 steps, at 32 a second.
    assert "50 of 160 updates of all lanes, 32 environment steps/s, 28 s left" in said


def test_many_workers(begun, capsys):
    for number in range(30):
        worker(begun, f"node1-{number}", 40 - number)
    said = shown(begun, capsys=capsys)[1]
    assert "30 workers" in said and "10 more, which spoke later" in said
    assert "node1-0 " in said and "node1-29" not in said and "waits" in said


@pytest.mark.parametrize("who", ["node2-9", "here"])
def test_a_worker_that_is_gone(begun, capsys, who):
    """Another machine's is gone when it has been silent for a minute, one of this machine as soon as it has ended."""
    if who == "here":
        who = f"{socket.gethostname()}-{2**22 + 1}"  # more than Linux gives
    worker(begun, "node1-7", 1, {1: 5})
    worker(begun, who, 90 if who == "node2-9" else 10, {3: 5, 1: 2})
    claim(begun, "node1-7", 1)
    said = shown(begun, capsys=capsys)[1]
    assert "0 of 4 chunks done, 1 at work, 3 waiting" in said
    assert f"gone, {'90' if who == 'node2-9' else '10'} s ago" in said
    worker(begun, "node3-1", 0, {3: 6}).note(3, "began", 0)
    assert who not in shown(begun, capsys=capsys)[1], "its chunk was taken over"


def test_a_chunk_is_taken_over_from_who_said_no_more(begun, capsys):
    one, other = worker(begun, "node1-1"), worker(begun, "node2-2")
    for number, what in enumerate(("began", "ended", "stopped", "failed")):
        one.note(number, "began", 0, "on cpu:0")
        if what != "began":
            one.note(number, what, 5)
        other.note(number, "began", 5, "on cpu:1")
    assert [other.events(number)[-1].text for number in range(4)] == [
        "on cpu:1, taken over from node1-1",
        *["on cpu:1"] * 3,
    ]
    assert other.taken() == {0}
    assert "1 taken over from a worker that was gone" in shown(begun, capsys=capsys)[1]


def test_chunks_that_failed(begun, capsys):
    give_up(begun, 2)
    Shared(begun).fail(1, "OSError: once")
    said = shown(begun, capsys=capsys)[1]
    assert "0 of 4 chunks done, 3 waiting, 1 failed, 1 to be tried again after an error" in said
    assert "chunk 2 (seed=4, seed=5) failed three times: ValueError: the world is flat" in said
    assert f"see {begun / 'work' / 'logs' / '00002.log'}" in said


def test_a_failure_is_told_in_the_log_with_the_file_of_its_traceback(monkeypatch, tmp_path, capsys):
    train = Engine.train

    def broken(self, schedule, number, *rest):
        if number == 1:
            raise ValueError("the world\nis flat")
        return train(self, schedule, number, *rest)

    monkeypatch.setattr(Engine, "train", broken)
    with pytest.raises(ChunkError, match="chunk 1"):
        sweep(tmp_path / "run")
    events, who = Ledger(tmp_path / "run").events(1), f"{socket.gethostname()}-{os.getpid()}"
    assert [e.what for e in events] == ["began", "failed"] * 3 and {e.who for e in events} == {who}
    assert events[0].text.startswith("on cpu:")
    assert events[-1].text == "ValueError: the world is flat; its traceback is in work/failed/00001.3"
    assert "in broken" in (tmp_path / "run" / "work" / "failed" / "00001.3").read_text()
    assert [e.what for e in Ledger(tmp_path / "run").events(0)] == ["began", "ended"]
    code, said = shown(tmp_path / "run", "--watch", capsys=capsys)
    assert code == 1 and "3 of 4 chunks done, 1 failed" in said and "the world is flat" in said


def test_a_process_tells_what_it_does_while_it_works(monkeypatch, tmp_path):
    heard, update = [], Progress.update

    def listen(self, number, *rest):
        update(self, number, *rest)
        time.sleep(0.05)  # the other thread's turn
        heard.extend(statuses(Ledger(tmp_path / "run").told()))

    monkeypatch.setattr(Progress, "update", listen)
    monkeypatch.setattr(crew, "TOLD", 0.01)
    sweep(tmp_path / "run")
    last = heard[-1]
    assert last.who == f"{socket.gethostname()}-{os.getpid()}" and last.device.startswith("cpu:")
    assert last.began <= last.time and not last.gone(last.time)
    assert max(one.updates_per_second for one in heard) > 0 and max(one.steps_per_second for one in heard) > 0
    assert {updates for one in heard for updates in one.chunks.values()} > {5}, "as segments go by"
    assert Ledger(tmp_path / "run").told() == {}, "it has left"


class TestWatch:
    def test_it_ends_with_the_run(self, whole, capsys):
        code, said = shown(whole, "--watch", capsys=capsys)
        assert code == 0 and "IQM" in said

    def test_ctrl_c_ends_it(self, begun, monkeypatch, capsys):
        def interrupt(seconds):
            raise KeyboardInterrupt

        monkeypatch.setattr(watch.time, "sleep", interrupt)
        assert shown(begun, "--watch", capsys=capsys)[0] == 130

    def test_it_says_what_has_changed(self, begun, whole, monkeypatch, capsys):
        steps = [
            lambda: None,
            lambda: worker(begun, "node1-7", 0, {1: 5}),
            lambda: Shared(begun).finish(0),
            lambda: give_up(begun, 2),
            lambda: (worker(begun, "node1-7", 90, {1: 5}), worker(begun, "node2-9")),
            lambda: (shutil.copy(whole / "summary.json", begun), shutil.copytree(whole / "chunks", begun / "chunks")),
        ]
        said = []

        def step(seconds):
            assert seconds == 5
            said.append(capsys.readouterr().out)
            steps.pop(0)()

        monkeypatch.setattr(watch.time, "sleep", step)
        assert main.main(["show", str(begun), "--watch"]) == 0
        assert "seeds: 0 to 7" in said[0] and said[1] == ""
        assert said[2].splitlines() == [
            "node1-7 works on gpu:0 (NVIDIA H200)",
            "0 of 4 chunks done, 1 at work, 3 waiting; "
            "10 of 160 updates of all lanes, 32 environment steps/s, 38 s left",
        ]
        assert said[3].startswith("1 of 4 chunks done, 1 at work, 2 waiting; 50 of 160")
        assert said[4].startswith("chunk 2 (seed=4, seed=5) failed three times")
        assert said[5].splitlines()[:2] == ["node2-9 works on gpu:0 (NVIDIA H200)", "node1-7 is gone"]
        assert "IQM" in capsys.readouterr().out

    def test_a_terminal_shows_one_screen(self, begun, whole, monkeypatch, capsys):
        from rich.console import Console

        monkeypatch.setattr(watch, "make_console", lambda: Console(force_terminal=True, width=100, height=50))
        monkeypatch.setattr(watch.time, "sleep", lambda seconds: shutil.copy(whole / "summary.json", begun))
        code, said = shown(begun, "--watch", capsys=capsys)
        assert code == 0 and said.count("seeds: 0 to 7") >= 2 and "\x1b[1A" in said and "IQM" in said

    def test_a_run_that_was_not_begun(self, begun, whole, monkeypatch, capsys):
        (begun / "chunks.json").unlink()

        def begin(seconds):
            shutil.copy(whole / "chunks.json", begun)
            shutil.copy(whole / "summary.json", begun)

        monkeypatch.setattr(watch.time, "sleep", begin)
        code, said = shown(begun, "--watch", capsys=capsys)
        assert code == 0 and "nothing trained yet" in said and "IQM" in said


def test_an_address(begun, capsys):
    upath = pytest.importorskip("upath")
    worker(begun, "node1-7", 1, {1: 5}).finish(0)
    give_up(begun, 2)
    for file in begun.rglob("*"):
        if file.is_file():
            upath.UPath("memory://shown/run").joinpath(str(file.relative_to(begun))).write_bytes(file.read_bytes())
    here, there = (shown(path, capsys=capsys)[1] for path in (begun, "memory://shown/run"))
    assert "1 of 4 chunks done, 1 at work, 1 waiting, 1 failed" in there
    assert there.replace("memory://shown/run", str(begun)) == here


class TestProgress:
    """The line of a process, by a clock of the test's own."""

    @pytest.fixture
    def clock(self, monkeypatch):
        now = [0.0]
        monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
        return now

    def other(self, who, steps, **chunks):
        return Status(who, 0.0, 0.0, "cpu:0", {}, 0.0, steps, 0.0, 3.0, 1)

    def trained(self, bar, number, updates):
        bar.update(
            number, updates, {"env_steps": np.full((2, 1), 8.0), "episode_return": np.ones((2, 1))}, np.ones(2, bool)
        )

    def test_everybody_counts(self, clock, capsys):
        with Progress() as bar:
            bar.start({0: Size(2, 20, 16.0), 1: Size(2, 20, 16.0), 2: Size(2, 20, 48.0), 3: Size(2, 20, 16.0)})
            bar.at(0, 20)  # before this process came
            for second in range(100, 130):  # after compiling
                clock[0] = float(second)
                if second < 120:
                    self.trained(bar, 1, second - 99)
                bar.at(2, (second - 99) // 2)
                bar.hear([self.other("node1-7", 100.0)], 2, {3})
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 6, "every five seconds"
        assert said[3].split("  ") == [
            "86/120 updates of all lanes",
            "116 steps/s",
            "return 2",
            "1 of 8 lanes failed",
            "2 workers",
            "1 chunk given up",
            "17 s left",  # work of 4 updates of the one and 13 of the other, 4 * 16 + 13 * 48, at 16 + 24 a second
        ]

    def test_the_end_is_shown_though_others_came_to_it(self, clock, capsys):
        with Progress() as bar:
            bar.start({0: Size(1, 20, 1.0)})
            bar.at(0, 20)
            bar.hear([], 1, set())
            bar.hear([], 1, set())
            bar.start({0: Size(1, 20, 1.0), 1: Size(1, 20, 1.0)})  # a rung of halving
            bar.at(1, 20)
            bar.hear([], 1, set())
        assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == ["20/20", "40/40"]

    def test_nothing_is_known_at_first(self):
        pace = Pace()
        assert pace.at(0.0, 0.0) == pace.at(50.0, 0.0) == pace.at(60.0, 10.0) == (0.0,)
        assert pace.at(62.0, 14.0) == (2.0,)
        assert pace.at(102.0, 14.0) == (4 / 42,), "nothing for a while"
        assert math.isclose(pace.at(700.0, 1210.0)[0], 1196 / 638)
        assert math.isclose(pace.at(701.0, 1220.0)[0], 1206 / 639)

    @pytest.mark.parametrize(
        ("seconds", "words"),
        [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5970, "1 h 40 min"), (5900, "98 min"), (200000, "2 d 7 h")],
    )
    def test_durations(self, seconds, words):
        assert progress.duration(seconds) == words


def test_what_a_process_said_long_ago_is_forgotten(begun):
    worker(begun, "node1-7", 700)
    worker(begun, "node2-9", 90)
    claims = Shared(begun)

    class Board:
        schedule, needs, mine = pgjax.runs.load.planned(begun).schedule, [set()] * 4, {}

        def cost(self, chunk):
            return 1.0

    Board.claims = claims
    assert crew.look(Board(), Progress(shown=False)) == 0
    assert set(claims.told()) == {"node2-9"}
    assert json.loads((begun / "work" / "workers" / "node2-9.json").read_text())["device"]

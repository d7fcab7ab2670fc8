"""What a lane comes to depends on its setting, its seed, the width and the device, and on nothing else: bit for bit."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
import xarray

import pgjax
from pgjax import policies
from pgjax.cli import main
from pgjax.engine import checkpoints, memory, programs, progress
from pgjax.engine.checkpoints import Checkpoint, Folder
from pgjax.engine.stages import extended
from pgjax.numerics import keys
from pgjax.runs import load, resume
from pgjax.runs.run import Run
from pgjax.training.loop import TrainState

TINY = {"hidden": (4,), "num_steps": 4, "num_envs": 2, "eval_episodes": 2, "learning_rate": [1e-3, 1e-2]}
DRAWN = {"hidden": (4,), "num_steps": 4, "num_envs": 2, "eval_episodes": 2, "env.max_steps_in_episode": 5}
OPTIONS = {"updates": 20, "width": 4, "progress": False}


def sweep(seeds=3, settings=None, **options):
    return pgjax.run(
        "a2c", "PolicyProbe-pgjax", seeds=seeds, settings={**TINY, **(settings or {})}, **OPTIONS | options
    )


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """The same programs again and again, compiled once."""
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("cache")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield
    jax.config.update("jax_compilation_cache_dir", before[0])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", before[1])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """6 lanes in a chunk of 4 and one of 2 and two places of padding; never disturbed."""
    return sweep(out=tmp_path_factory.mktemp("whole") / "run")


def assert_identical(a, b):
    xarray.testing.assert_identical(a.metrics, b.metrics)
    for number in range(len(a.schedule.chunks)):
        states = [
            r.archive.load(number, checkpoints.kept_shapes(r.plan.groups[0], r.schedule.widths[0])).state
            for r in (a, b)
        ]
        jax.tree.map(np.testing.assert_array_equal, *states)


def interrupted(monkeypatch, after, **options):
    """A run that Ctrl-C stops after some segments."""
    update, calls = progress.Progress.update, []

    def interrupt(self, *arguments):
        update(self, *arguments)
        calls.append(1)
        if len(calls) == after:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(progress.Progress, "update", interrupt)
        stopped = sweep(**options)
    assert stopped.interrupted
    return stopped


def test_the_last_chunk_is_padded_to_the_width(whole):
    assert [len(c.lanes) for c in whole.schedule.chunks] == [4, 2] and whole.schedule.widths == [4]
    shapes = checkpoints.kept_shapes(whole.plan.groups[0], 4)
    assert all(x.shape[0] == 4 for x in jax.tree.leaves(whole.archive.load(1, shapes).state))


def test_neither_neighbours_nor_the_place_in_a_chunk_touch_a_lane(whole):
    """Other seeds beside it, another order, fewer lanes: the lanes that are in both agree to the last bit."""
    other = sweep(seeds=[9, 2, 0, 5, 1], settings={"learning_rate": [3e-2, 1e-2]})
    for seed in (0, 1, 2):
        a, b = (r.metrics.sel(learning_rate=1e-2, seed=seed) for r in (whole, other))
        for name in a.data_vars:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("after", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 19, 21, 39))])
def test_a_run_that_was_interrupted_and_resumed_ends_as_one_that_never_was(whole, tmp_path, monkeypatch, after):
    interrupted(monkeypatch, after, out=tmp_path / "run", checkpoint=0.0)
    assert_identical(pgjax.resume(tmp_path / "run", progress=False), whole)
    assert not json.loads((tmp_path / "run" / "summary.json").read_text())["interrupted"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_the_exit_code_and_nothing_is_lost(whole, tmp_path, monkeypatch, capsys, number):
    update, calls = progress.Progress.update, []
    # As in a terminal: what runs the tests may ignore them.
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)

    def tell(self, *arguments):
        update(self, *arguments)
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(number)

    words = f"sweep a2c PolicyProbe-pgjax --seeds 3 --updates 20 --width 4 --out {tmp_path / 'run'} "
    words += "--set hidden=4 num_steps=4 num_envs=2 eval_episodes=2 learning_rate=1e-3,1e-2"
    with monkeypatch.context() as patched:
        patched.setattr(progress.Progress, "update", tell)
        assert main.main(words.split()) == 128 + number
    signal.signal(number, before)
    assert "goes on" in capsys.readouterr().out
    assert Folder(tmp_path / "run" / "chunks").updates(0) == [3]  # though no minute has passed
    assert Run.open(tmp_path / "run").summary["interrupted"]
    assert_identical(pgjax.resume(tmp_path / "run", progress=False), whole)


# The command, in a process that hears SIGHUP, which nohup leaves ignored.
LISTENING = """
import runpy, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)
sys.argv[0] = "pgjax"
runpy.run_module("pgjax", run_name="__main__")
"""


@pytest.mark.slow
def test_a_process_that_is_told_to_end_ends_as_one_that_never_was(tmp_path):
    """SIGTERM as soon as it trains, and SIGHUP once it was resumed; no checkpoint would have been due."""
    out = tmp_path / "run"
    words = f"-m pgjax sweep a2c PolicyProbe-pgjax --seeds 3 --updates 8000 --width 4 --snapshots 4 --out {out} "
    words += "--set hidden=4 num_steps=4 num_envs=2 eval_episodes=2 learning_rate=1e-3,1e-2"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for number, command in ((signal.SIGTERM, words), (signal.SIGHUP, f"-m pgjax resume {out}")):
        before = progressed(out)
        with subprocess.Popen(
            [sys.executable, "-c", LISTENING, *command.split()[2:]],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            limit = time.time() + 200
            while progressed(out) in (before, True) and process.poll() is None and time.time() < limit:
                time.sleep(0.01)
            process.send_signal(number)
            said = process.communicate(timeout=200)[0].decode()
        assert process.returncode == 128 + number, said
        assert "Traceback" not in said and "goes on" in said
    assert_identical(pgjax.resume(out, progress=False), sweep(updates=8000, snapshots=4, out=tmp_path / "whole"))


def test_resuming_a_finished_run_changes_nothing(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "run")
    assert_identical(pgjax.resume(tmp_path / "run", progress=False), whole)


def spoil_array(place):
    data = bytearray((place / "state.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (place / "state.npz").write_bytes(data)


SPOILT = {
    "a bit of the state": spoil_array,
    "metrics torn": lambda place: (place / "metrics.npz").write_bytes((place / "metrics.npz").read_bytes()[:-20]),
    "manifest torn": lambda place: (place / "manifest.json").write_text('{"update": 4'),
    "manifest gone": lambda place: (place / "manifest.json").unlink(),
    "state gone": lambda place: (place / "state.npz").unlink(),
}


@pytest.mark.parametrize(
    "spoil", [pytest.param(f, marks=pytest.mark.slow) if i else f for i, f in enumerate(SPOILT.values())], ids=SPOILT
)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(whole, tmp_path, monkeypatch, capsys, spoil):
    interrupted(monkeypatch, 5, out=tmp_path / "run", checkpoint=0.0)
    folder = Folder(tmp_path / "run" / "chunks")
    assert folder.updates(0) == [4, 5]
    spoil(tmp_path / "run" / "chunks" / "00000" / "update-00000005")
    assert_identical(pgjax.resume(tmp_path / "run", progress=False), whole)
    assert "update-00000005' is damaged" in capsys.readouterr().err


STRAY = {
    "a copy": lambda place: shutil.copytree(place, place.with_name("update-00000009 copy")),
    "words": lambda place: place.with_name("update-latest").mkdir(),
    "a file": lambda place: place.with_name("update-00000006").write_text(""),
    "an archive": lambda place: place.with_name("update-00000009.zip").write_text(""),
    "another number": lambda place: place.with_name("update-9").mkdir(),
    "another folder of chunks": lambda place: (place.parent.parent / "old").mkdir(),
    "a file of a file manager": lambda place: [
        (folder / ".DS_Store").write_bytes(b"\0") for folder in (place, place.parent, place.parent.parent)
    ],
}
UNSOUND = {
    "manifest of something else": lambda place: (place / "manifest.json").write_text("[]"),
    "manifest of numbers": lambda place: (place / "manifest.json").write_text('{"seconds": 1.0, "files": 3}'),
    "manifest without files": lambda place: (place / "manifest.json").write_text('{"seconds": 1.0, "files": {}}'),
    "manifest without seconds": lambda place: (place / "manifest.json").write_text(
        (place / "manifest.json").read_text().replace("seconds", "minutes")
    ),
    "emptied": lambda place: [file.unlink() for file in place.iterdir()],
}


@pytest.fixture
def kept(tmp_path):
    """The checkpoints of a chunk after 4 and 5 updates."""
    folder = Folder(tmp_path / "chunks")
    for update in (4, 5):
        folder.save(0, Checkpoint(update, {"w": np.full(2, update)}, {"loss": np.zeros((2, update))}, {}, 1.5))
    return folder


def test_the_names_of_arrays_in_a_checkpoint_are_those_of_older_ones(kept):
    """jax makes them of the paths of a tree; under other names no run could be resumed."""
    tree = TrainState({"params": [np.zeros(1), (np.zeros(1),)]}, np.ones(2, bool), np.ones(2, int))
    kept.save(1, Checkpoint(3, tree, {}, {}))
    with np.load(kept.path / "00001" / "update-00000003" / "state.npz") as arrays:
        names = [".learner['params'][0]", ".learner['params'][1][0]", ".finite", ".updates"]
        assert sorted(arrays.files) == sorted(names)


@pytest.mark.parametrize("stray", STRAY.values(), ids=STRAY)
def test_what_else_lies_among_the_checkpoints_is_none_of_ours(kept, capsys, stray):
    stray(kept.path / "00000" / "update-00000005")
    assert kept.updates(0) == [4, 5] and kept.measured(0, discard=True).update == 5
    kept.save(0, kept.load(0, {"w": np.zeros(2, int)})._replace(update=6))
    assert kept.updates(0) == [5, 6] and kept.load(0, {"w": np.zeros(2, int)}).state["w"].tolist() == [5, 5]
    assert "damaged" not in capsys.readouterr().err


@pytest.mark.parametrize("spoil", UNSOUND.values(), ids=UNSOUND)
def test_a_checkpoint_that_says_nothing_sound_is_damaged(kept, capsys, spoil):
    spoil(kept.path / "00000" / "update-00000005")
    assert kept.measured(0).update == 4
    assert "update-00000005' is damaged" in capsys.readouterr().err


def test_a_run_with_strays_is_shown(whole, tmp_path, capsys):
    shutil.copytree(whole.path, tmp_path / "run")
    for stray in STRAY.values():
        stray(tmp_path / "run" / "chunks" / "00000" / "update-00000020")
    (tmp_path / "run" / "metrics.zarr" / ".DS_Store").write_bytes(b"\0")
    assert main.main(["show", str(tmp_path / "run")]) == 0
    assert "120 of 120 updates of all lanes kept" in capsys.readouterr().out
    xarray.testing.assert_identical(load.load(tmp_path / "run").metrics, whole.metrics)
    assert load.load(tmp_path / "run").updates == [20]


def test_where_every_checkpoint_is_damaged_the_chunk_begins_anew(whole, tmp_path, monkeypatch):
    interrupted(monkeypatch, 5, out=tmp_path / "run", checkpoint=0.0)
    for place in (tmp_path / "run" / "chunks" / "00000").iterdir():
        spoil_array(place)
    assert_identical(pgjax.resume(tmp_path / "run", progress=False), whole)


def test_a_full_disk_stops_with_one_line_and_loses_nothing(whole, tmp_path, monkeypatch, capsys):
    savez, calls = np.savez, []

    def fill(file, **arrays):
        calls.append(1)
        if len(calls) == 8:  # the metrics of the fourth checkpoint
            raise OSError(28, "No space left on device", str(file))
        savez(file, **arrays)

    words = "sweep a2c PolicyProbe-pgjax --seeds 3 --updates 20 --width 4 --checkpoint 0 --set hidden=4 num_steps=4"
    words += f" num_envs=2 eval_episodes=2 learning_rate=1e-3,1e-2 --out {tmp_path / 'run'}"
    with monkeypatch.context() as patched:
        patched.setattr(np, "savez", fill)
        assert main.main(words.split()) == 1
    said = capsys.readouterr().err
    assert "pgjax: No space left on device" in said and "Traceback" not in said
    kept = Folder(tmp_path / "run" / "chunks")
    assert kept.updates(0) == [2, 3] and not list((tmp_path / "run" / "chunks" / "00000").glob(".*"))
    assert_identical(pgjax.resume(tmp_path / "run", progress=False), whole)


def progressed(out):
    """What tells that a process has come further: the checkpoints, or at first the folder."""
    return sorted(str(place) for place in out.glob("chunks/*/update-*")) or (out / "chunks.json").is_file()


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_one_that_never_was(whole, tmp_path):
    """SIGKILL while it compiles, trains or writes; after each, resumed in a new process."""
    out, generator = tmp_path / "run", np.random.default_rng(0)
    words = f"-m pgjax sweep a2c PolicyProbe-pgjax --seeds 3 --updates 20 --width 4 --checkpoint 0 --out {out} "
    words += "--set hidden=4 num_steps=4 num_envs=2 eval_episodes=2 learning_rate=1e-3,1e-2"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for _ in range(3):
        again = (out / "config.json").is_file()
        command = [sys.executable, *(f"-m pgjax resume {out}" if again else words).split()]
        before = progressed(out)
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            limit = time.time() + 60
            while progressed(out) == before and process.poll() is None and time.time() < limit:
                time.sleep(0.02)
            time.sleep(generator.uniform(0, 0.05))  # twenty updates take it some tenths of a second
            process.kill()
        assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
    assert_identical(pgjax.resume(out, progress=False), whole)


class TestExtend:
    @pytest.mark.slow
    def test_longer_and_more_seeds_is_the_run_that_was_both_from_the_start(self, tmp_path):
        first = sweep(updates=10, out=tmp_path / "run")
        assert first.schedule.segments == [1]
        extended = pgjax.extend(tmp_path / "run", updates=12, seeds=5, progress=False)
        assert extended.metrics.sizes["seed"] == 5 and extended.metrics.sizes["update"] == 12
        direct = sweep(updates=12, seeds=5)  # its segments are of one update too
        xarray.testing.assert_identical(extended.metrics, direct.metrics)
        run = load.load(tmp_path / "run")
        for lane in ({"seed": 1, "learning_rate": 1e-2}, {"seed": 4, "learning_rate": 1e-3}):
            jax.tree.map(np.testing.assert_array_equal, run.lane(**lane)[2], direct.lane(**lane)[2])
        # And again, from there.
        xarray.testing.assert_identical(
            pgjax.extend(tmp_path / "run", updates=13, progress=False).metrics, sweep(updates=13, seeds=5).metrics
        )

    def test_what_was_trained_is_not_trained_again(self, whole, tmp_path, monkeypatch):
        shutil.copytree(whole.path, tmp_path / "run")
        trained, update = [], progress.Progress.update
        monkeypatch.setattr(
            progress.Progress, "update", lambda self, n, *rest: (trained.append(n), update(self, n, *rest))[0]
        )
        pgjax.extend(tmp_path / "run", seeds=4, progress=False)
        assert sum(trained) == 2 * 20

    def test_updates_are_rounded_up_to_whole_segments(self, whole):
        longer = whole.schedule._replace(segments=[2])
        assert extended(whole.plan, longer, None, 21, None).updates == [22]
        assert extended(whole.plan, longer, 8 * 21, None, None).updates == [22]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "give steps, updates or seeds"),
            ({"updates": 20}, "nothing to extend"),
            ({"updates": 10}, "updates=10 is less than the 20"),
            ({"seeds": 2}, "seeds=2 is less than the 3"),
            ({"steps": 100, "updates": 100}, "give steps or updates, not both"),
            ({"seeds": "many"}, "seeds must be a whole number, got 'many'"),
            ({"seeds": 2**32 + 1}, "more than the 1,000,000 lanes that one run may have"),
            ({"updates": 2**31}, f"updates must be {keys.UPDATES} or less"),
        ],
    )
    def test_mistakes_change_nothing(self, whole, options, message):
        before = {f: f.stat().st_mtime_ns for f in whole.path.rglob("*")}
        with pytest.raises(ValueError, match=message):
            pgjax.extend(whole.path, progress=False, **options)
        assert {f: f.stat().st_mtime_ns for f in whole.path.rglob("*")} == before

    def test_a_state_that_does_not_fit_changes_nothing(self, whole):
        before = {f: f.stat().st_mtime_ns for f in whole.path.rglob("*")}
        wider = lambda env, config: policies.make(env, pgjax.Config(hidden=(5,)))  # noqa: E731
        with pytest.raises(ValueError, match="don't fit the network; pass policy="):
            pgjax.extend(whole.path, updates=40, policy=wider, progress=False)
        assert {f: f.stat().st_mtime_ns for f in whole.path.rglob("*")} == before

    def test_a_run_that_has_not_ended_is_refused(self, tmp_path, monkeypatch):
        interrupted(monkeypatch, 2, out=tmp_path / "run")
        with pytest.raises(ValueError, match="hasn't ended; pgjax resume"):
            pgjax.extend(tmp_path / "run", seeds=9, progress=False)


class TestReplay:
    @pytest.mark.slow
    @pytest.mark.parametrize(("rate", "seed"), [(1e-3, 0), (1e-2, 2)])
    def test_one_lane_alone_has_the_same_curve(self, whole, tmp_path, rate, seed):
        alone = pgjax.replay(whole.path, seed=seed, learning_rate=rate, out=tmp_path / "lane", progress=False)
        xarray.testing.assert_identical(alone.metrics, whole.metrics.sel(learning_rate=[rate], seed=[seed]))
        params = load.load(tmp_path / "lane").lane(seed=seed, learning_rate=rate)[2]
        jax.tree.map(np.testing.assert_array_equal, params, whole.lane(seed=seed, learning_rate=rate)[2])

    def test_the_command_says_so(self, whole, tmp_path, capsys):
        words = ["replay", str(whole.path), "--lane", "learning_rate=0.01,seed=1", "--out", str(tmp_path / "lane")]
        assert main.main(words) == 0
        assert "the curve of the run, bit for bit" in capsys.readouterr().out

    def test_the_command_says_where_it_is_not(self, whole, tmp_path, capsys):
        shutil.copytree(whole.path, tmp_path / "run")
        changed = whole.metrics.copy(deep=True)
        changed["loss"][1, 1, 3] += 1.0
        changed.to_zarr(tmp_path / "run" / "metrics.zarr", mode="w", zarr_format=3, consolidated=False)
        words = [
            "replay",
            str(tmp_path / "run"),
            "--lane",
            "learning_rate=0.01",
            "seed=1",
            "--out",
            str(tmp_path / "o"),
        ]
        assert main.main(words) == 1
        assert "not the curve of the run: loss differ" in capsys.readouterr().out

    @pytest.mark.slow
    @pytest.mark.parametrize("swept", [("env.gravity",), ("num_envs", "env.gravity", "learning_rate")])
    def test_a_lane_of_settings_that_were_drawn(self, tmp_path, swept):
        """What was swept stays what is swept, though one point alone is left of it."""
        drawn = {"env.gravity": [8.0, 11.0], "learning_rate": [1e-3, 1e-2], "num_envs": [2, 3]}
        settings = [{**DRAWN, **{name: drawn[name][i] for name in swept}} for i in range(2)]
        options = {"seeds": 2, "updates": 2, "progress": False, "settings": settings}
        run = pgjax.run("a2c", "CartPole-v1", out=tmp_path / "run", **options)
        alone = pgjax.replay(tmp_path / "run", seed=1, setting=1, out=tmp_path / "lane", progress=False)
        for name in ("loss", "final_return_stochastic"):
            np.testing.assert_array_equal(alone.metrics[name][0, 0], run.metrics[name].sel(setting=1, seed=1))
        assert float(alone.metrics.gravity[0]) == 11.0
        # And once more, of the folder that came of it.
        twice = pgjax.replay(tmp_path / "lane", seed=1, setting=0, progress=False)
        xarray.testing.assert_identical(twice.metrics, alone.metrics)

    def test_a_lane_that_is_not_there(self, whole, capsys):
        assert main.main(["replay", str(whole.path), "--lane", "learning_rate=0.5"]) == 2
        assert "--lane: learning_rate must be one of 0.001, 0.01; got 0.5" in capsys.readouterr().err


def test_another_jaxlib_or_device_is_named(whole, tmp_path, capsys):
    shutil.copytree(whole.path, tmp_path / "run")
    resume.resumed_job(tmp_path / "run")
    assert capsys.readouterr().err == ""
    schedule = json.loads((tmp_path / "run" / "chunks.json").read_text())
    schedule["machine"]["jaxlib"] = "0.9.1"
    (tmp_path / "run" / "chunks.json").write_text(json.dumps(schedule))
    resume.resumed_job(tmp_path / "run")
    assert "the run rounds otherwise from here on: jaxlib" in capsys.readouterr().err


def test_a_run_goes_on_with_the_devices_that_it_was_given(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    for given, wanted, found in ((None, None, None), (64, None, len(jax.devices())), (1, None, 1), (64, 1, 1)):
        config["execution"]["devices"] = given
        (tmp_path / "run" / "config.json").write_text(json.dumps(config))
        assert resume.resumed_job(tmp_path / "run", devices=wanted).execution.devices == found


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="glibc alone can be asked")
def test_what_was_freed_goes_back_to_the_system():
    """160 MB below something that stays, in a thread of their own as XLA's are: glibc keeps what is freed of them."""
    kept = []

    def fill():
        arrays = [np.ones(5_000) for _ in range(4_000)]
        kept.append(np.ones(5_000))
        del arrays

    thread = threading.Thread(target=fill)
    thread.start()
    thread.join()
    before = memory._resident()
    memory.give_back()
    assert before - memory._resident() > 100e6


def test_every_run_gives_back_what_was_freed(whole, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(memory, "give_back", lambda: given.append(1))
    shutil.copytree(whole.path, tmp_path / "run")
    pgjax.resume(tmp_path / "run", progress=False)
    assert given == [1]


def test_show_says_what_there_is(whole, tmp_path, capsys):
    assert main.main(["show", str(whole.path)]) == 0
    said = capsys.readouterr().out
    assert "120 of 120 updates of all lanes kept" in said and "seeds: 0 to 2 (3)" in said and "IQM" in said
    shutil.copytree(whole.path, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    assert main.main(["show", str(tmp_path / "run")]) == 0
    assert "not ended; `pgjax resume" in capsys.readouterr().out.replace("\n", " ")
    assert main.main(["show", str(tmp_path / "nowhere")]) == 2


class TestMemory:
    @pytest.mark.slow
    def test_the_width_is_what_fits(self, monkeypatch):
        """In one part at the least, and without what a process holds besides, which is more than the budget here."""
        monkeypatch.setattr(memory, "HELD", 0.0)
        monkeypatch.setattr(memory, "PARTS", 1)
        lane = {"num_envs": 64, "num_steps": 64, "hidden": (4,), "eval_episodes": 2, "learning_rate": 1e-3}
        options = {"seeds": 40, "updates": 2, "settings": lane, "progress": False}
        result = pgjax.run("a2c", "PolicyProbe-pgjax", memory="10MB", **options)
        width, count = result.schedule.widths[0], len(result.schedule.chunks)
        size = lambda width: programs.compiled(result.plan.groups[0], width, 1, jax.local_devices()[:1]).bytes  # noqa: E731
        assert width == -(-40 // count) and size(width) <= 0.9 * 10e6 < 1.1 * size(-(-40 // (count - 1)))
        assert sum(len(c.lanes) for c in result.schedule.chunks) == 40
        assert result.metrics.sizes["seed"] == 40 and np.isfinite(result.metrics.loss).all()

    def test_a_budget_for_not_even_one_lane(self):
        with pytest.raises(
            ValueError, match="memory: one lane needs .* MB, .* holds 0.00 MB are left; give more memory"
        ):
            pgjax.run("a2c", "PolicyProbe-pgjax", updates=1, settings=TINY, memory="1MB", progress=False)

    @pytest.mark.parametrize(
        ("text", "size"), [("4GB", 4e9), ("500 MiB", 500 * 2**20), (2e9, 2e9), ("1.5k", 1500.0), (None, None)]
    )
    def test_sizes(self, text, size):
        assert memory.parse(text) == size

    @pytest.mark.parametrize("text", ["much", "4 parsecs", "-1GB", "0", ""])
    def test_no_sizes(self, text):
        with pytest.raises(ValueError, match="memory must be"):
            memory.parse(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width must be 1 or more, got 0"),
        ({"memory": "1GB"}, "give memory, which finds the width, or width, not both"),
        ({"devices": 99}, r"devices must lie in \[1, "),
        ({"shard": "both"}, "shard must be one of lanes, envs; got 'both'"),
        ({"checkpoint": -1.0}, "checkpoint must be a number of seconds, 0 or more, got -1.0"),
        ({"checkpoint": float("inf")}, "checkpoint must be a number of seconds"),
        ({"checkpoint": "often"}, "checkpoint must be a number of seconds, 0 or more, got 'often'"),
        ({"halving": 1}, "halving must be 2 or more, got 1"),
        ({"halving": 3}, "halving=3 needs as many settings to choose from, got 2"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        sweep(out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_the_folder_of_a_run_moves(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "elsewhere")
    assert pathlib.Path(load.load(tmp_path / "elsewhere").path).name == "elsewhere"
    jax.tree.map(
        np.testing.assert_array_equal,
        load.load(tmp_path / "elsewhere").lane(seed=1, learning_rate=1e-3)[2],
        whole.lane(seed=1, learning_rate=1e-3)[2],
    )


@pytest.mark.slow
def test_keys_inside_a_world_are_kept_too(tmp_path, monkeypatch):
    """A world may draw from a key of its own, which is no array of numbers."""
    base = pgjax.envs.make("PolicyProbe-pgjax")

    def reset(key, params):
        state, obs = base.reset(key, params)
        return (state, key), obs

    def step(key, params, state, action):
        inner, own = state
        inner, seen = base.step(key, params, inner, action)
        own, now = jax.random.split(own)
        return (inner, own), seen._replace(reward=seen.reward + jax.random.normal(now))

    env = base._replace(reset=reset, step=step)
    options = {"settings": {**TINY, "learning_rate": 1e-3}, "updates": 6, "progress": False, "checkpoint": 0.0}
    whole = pgjax.run("a2c", env, **options)
    update = progress.Progress.update
    monkeypatch.setattr(progress.Progress, "update", lambda *a: (update(*a), signal.raise_signal(signal.SIGINT))[0])
    assert pgjax.run("a2c", env, out=tmp_path / "run", **options).interrupted
    monkeypatch.undo()
    xarray.testing.assert_identical(pgjax.resume(tmp_path / "run", env=env, progress=False).metrics, whole.metrics)


TORN = {"{": "can't be read", "[]": "can't be read|has no", "{}": "can't be read|has no", '"x"': "can't be read|has no"}


@pytest.mark.parametrize("file", ["config.json", "chunks.json", "summary.json"])
@pytest.mark.parametrize("text", TORN)
@pytest.mark.parametrize("command", ["resume", "extend", "replay", "show", "report"])
def test_a_torn_file_is_one_line(whole, tmp_path, monkeypatch, capsys, file, text, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    for name in ("config.json", "chunks.json", "summary.json"):
        shutil.copy(whole.path / name, tmp_path / "run" / name)
    (tmp_path / "run" / file).write_text(text)
    if (command, file) in {("resume", "summary.json"), ("replay", "summary.json"), ("report", "chunks.json")}:
        return  # it looks at none of that
    options = {"extend": ["--seeds", "5"], "replay": ["--out", "lane"]}.get(command, [])
    assert main.main([command, "run", *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith("pgjax: ") and said.count("\n") == 1 and file in said
    assert not (tmp_path / "lane").exists()


def test_drafts_of_a_killed_process_are_cleared_away(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "run")
    left = tmp_path / "run" / "chunks" / "00000" / ".update-00000020.99"
    left.mkdir()
    os.utime(left, (0, 0))
    for place in (tmp_path / "run" / "chunks" / "00000").glob("update-*"):
        shutil.rmtree(place)
    assert_identical(pgjax.resume(tmp_path / "run", progress=False), whole)
    assert not left.exists()

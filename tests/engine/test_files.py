"""Two processes that write and read the same place at once: nobody fails, and what is read is always whole."""

import json
import multiprocessing
import os
import shutil
import time

import numpy as np
import pytest
import xarray

from pgjax.engine import files
from pgjax.engine.checkpoints import Checkpoint, Folder
from pgjax.runs import dataset, folder
from pgjax.sweeps.values import place

ROUNDS = 200
LIKE = {"w": np.zeros((2, 500))}


def checkpoint(update):
    return Checkpoint(update, {"w": np.full((2, 500), float(update))}, {"loss": np.zeros((2, update))}, {}, 1.0)


def train(path, seed, failed, rounds=ROUNDS):
    """What a worker does with the checkpoints of its chunk, as fast as it can: each is one that anybody could train."""
    archive, generator = Folder(place("out", path)), np.random.default_rng(seed)
    try:
        for _ in range(rounds):
            kept = archive.measured(0, discard=True)
            at = 0 if kept is None else kept.update
            archive.save(0, checkpoint(at + int(generator.integers(1, 3))))
            found = archive.load(0, LIKE)
            assert found is not None and found.update > at, f"{at} is the newest, and {found} was read"
            assert (found.state["w"] == found.update).all() and found.metrics["loss"].shape == (2, found.update)
    except BaseException as error:
        failed.put(f"{type(error).__name__}: {error}")
        raise


def write(path, seed, failed):
    """What writes the results of a run, again and again, and reads them back."""
    data = xarray.Dataset({"x": (("seed", "update"), np.ones((3, 100)))}, {"seed": [0, 1, 2]})
    try:
        for _ in range(ROUNDS // 4):
            dataset.write(path / "metrics.zarr", data)
            folder.write_json(path / "summary.json", {"rows": list(range(100))})
            xarray.testing.assert_equal(dataset.load(path / "metrics.zarr"), data)
            assert len(json.loads(files.read(path / "summary.json"))["rows"]) == 100
    except BaseException as error:
        failed.put(f"{type(error).__name__}: {error}")
        raise


def at_once(function, path, *more):
    """What went wrong in two processes that call the function at once; they are new, since JAX's threads don't fork."""
    start = multiprocessing.get_context("spawn")
    failed = start.Queue()
    both = [start.Process(target=function, args=(path, seed, failed, *more)) for seed in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    return [failed.get() for one in both if one.exitcode]


def test_two_processes_train_the_same_chunk(tmp_path, capfd):
    assert at_once(train, tmp_path) == []
    assert "damaged" not in capfd.readouterr().err
    assert len(Folder(tmp_path).updates(0)) == 2 and len(os.listdir(tmp_path / "00000")) == 2


def test_two_processes_write_the_same_results(tmp_path):
    assert at_once(write, tmp_path) == []
    assert sorted(os.listdir(tmp_path)) == ["metrics.zarr", "summary.json"]


def test_a_checkpoint_that_is_there_stays_and_one_that_says_more_or_is_sound_takes_its_place(tmp_path):
    archive, there = Folder(tmp_path), tmp_path / "00000" / "update-00000003"
    archive.save(0, checkpoint(3))
    before = there.stat().st_ino
    archive.save(0, checkpoint(3)._replace(seconds=9.0))
    assert there.stat().st_ino == before and archive.measured(0).seconds == 1.0
    archive.save(0, checkpoint(3)._replace(finals={"final_return": np.ones((2, 1))}))
    assert list(archive.measured(0).finals) == ["final_return"]
    (there / "state.npz").write_bytes(b"")
    archive.save(0, checkpoint(3))
    assert archive.load(0, LIKE).update == 3 and os.listdir(tmp_path / "00000") == ["update-00000003"]


def test_drafts_of_others_are_left_until_they_are_old(tmp_path):
    archive = Folder(tmp_path)
    archive.save(0, checkpoint(1))
    young, old = (tmp_path / "00000" / f".update-00000002.elsewhere-7-{name}" for name in ("young", "old"))
    for left in (young, old):
        shutil.copytree(tmp_path / "00000" / "update-00000001", left)
    then = time.time() - 2 * files.OLD
    for file in [old, *old.iterdir()]:
        os.utime(file, (then, then))
    os.utime(young, (then, then))  # as the folder of one that writes a large file
    archive.save(0, checkpoint(2))
    assert young.is_dir() and not old.exists() and archive.updates(0) == [1, 2]
    (tmp_path / ".a.json.elsewhere-7-young").write_text("")
    (tmp_path / ".a.json.elsewhere-7-old").write_text("")
    os.utime(tmp_path / ".a.json.elsewhere-7-old", (then, then))
    files.replace_text(tmp_path / "a.json", "{}")
    assert sorted(os.listdir(tmp_path)) == [".a.json.elsewhere-7-young", "00000", "a.json"]


def test_a_checkpoint_that_vanishes_as_it_is_read_is_passed_over(tmp_path, monkeypatch, capsys):
    archive = Folder(tmp_path)
    for update in (1, 2):
        archive.save(0, checkpoint(update))
    opened = files.read

    def vanish(path):
        monkeypatch.undo()
        for update in (3, 4):
            archive.save(0, checkpoint(update))
        return opened(path)

    monkeypatch.setattr(files, "read", vanish)
    assert archive.load(0, LIKE).update == 4 and capsys.readouterr().err == ""


def test_of_those_that_create_a_file_or_a_run_folder_one_succeeds(tmp_path):
    files.create(tmp_path / "a", "1")
    with pytest.raises(FileExistsError):
        files.create(tmp_path / "a", "2")
    assert (tmp_path / "a").read_text() == "1" and os.listdir(tmp_path) == ["a"]
    claim = files.claim

    def late(draft, path):
        monkeypatch.undo()
        folder.create(path, {"mine": False})
        claim(draft, path)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(files, "claim", late)
        with pytest.raises(ValueError, match="out: folder '.*run' exists; choose another or remove it"):
            folder.create(tmp_path / "run", {"mine": True})
    assert folder.read_json(tmp_path / "run" / "config.json", ["mine"]) == {"mine": False}
    assert sorted(os.listdir(tmp_path)) == ["a", "run"]

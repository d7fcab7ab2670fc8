"""Successive halving: which settings go on, and that those that do come to what they come to anyway."""

import json
import shutil
import signal
import types

import numpy as np
import pytest
import xarray

import pgjax
from pgjax.engine import halving, progress
from pgjax.engine.checkpoints import Checkpoint
from pgjax.engine.chunks import Chunk, Schedule
from pgjax.runs import load

TINY = {"hidden": (4,), "num_steps": 4, "num_envs": 2, "eval_episodes": 2}
FROZEN = 1e-30  # a step that changes no weight
RATES = [FROZEN, 1e-1, 1e-2]


@pytest.mark.parametrize(
    ("updates", "length", "settings", "eta", "ends"),
    [
        (80, 2, 4, 2, [20, 40, 80]),
        (80, 2, 3, 2, [40, 80]),
        (100, 1, 16, 4, [6, 25, 100]),
        (81, 1, 27, 3, [3, 9, 27, 81]),
        (8, 1, 64, 2, [1, 2, 4, 8]),  # no rung is shorter than a segment
        (7, 7, 9, 3, [7]),
    ],
)
def test_rungs_end_at_powers_of_eta(updates, length, settings, eta, ends):
    assert halving.ends(updates, length, settings, eta) == ends


def test_the_score_is_the_interquartile_mean_of_the_last_quarter():
    curves = np.tile(np.arange(8.0), (5, 1)) + np.array([[0.0], [10.0], [1.0], [2.0], [-50.0]])
    assert halving.score(curves) == pytest.approx(6.5 + (0 + 1 + 2) / 3)
    curves[:, 6] = np.nan  # no episode was completed there
    assert halving.score(curves) == pytest.approx(7 + 1)
    assert halving.score(np.full((2, 4), np.nan)) == -np.inf


def test_a_seed_that_failed_counts_as_the_worst():
    curves = np.ones((4, 8))
    curves[0] = np.nan
    assert halving.score(curves) == 1.0  # cut off with the worst quarter
    curves[1] = np.nan
    assert halving.score(curves) == -np.inf


@pytest.mark.parametrize(
    ("scores", "eta", "kept"),
    [([1.0, 3.0, 2.0, 0.0], 2, [1, 2]), ([1.0, 1.0, 1.0], 3, [0]), ([-np.inf, -np.inf], 2, [0]), ([5.0], 4, [0])],
)
def test_the_best_are_kept(scores, eta, kept):
    assert halving.kept(scores, eta) == kept


class Archive:
    """Curves of the chunks of a run: number -> [lanes and padding, updates]."""

    def __init__(self, chunks, curves):
        self.kept = {
            i: Checkpoint(c.last, None, {"episode_return": np.asarray(x)}, {})
            for i, (c, x) in enumerate(zip(chunks, curves, strict=True))
        }

    def measured(self, number):
        return self.kept.get(number)


PLAN = types.SimpleNamespace(groups=[types.SimpleNamespace(settings=[{"rate": x} for x in (1, 2, 3, 4)])])
# Four settings, one seed, rungs of 4, 4 and 8 updates; a place of padding in the first chunk of the second rung.
FIRST = [[0, 0, 0, 1.0], [0, 0, 0, 2.0], [0, 0, 9, 3.0], [0, 0, 0, 4.0]]
SECOND = [[0, 0, 6, 1.0], [5, 5, 2, 3.0], [5, 5, 2, 3.0]]


def test_a_later_rung_is_decided_by_the_last_quarter_of_all_that_was_seen():
    """Of 8 updates 2, not the last of the 4 of the rung: 3.5 and 2.5, where the last alone are 1 and 3."""
    chunks = [Chunk(0, 0, 0, 4, ((0, 5), (1, 5), (2, 5), (3, 5))), Chunk(0, 1, 4, 8, ((2, 5), (3, 5)))]
    schedule = Schedule([4], [2], [5], [16], chunks)
    found = halving.decision(PLAN, Archive(chunks, [FIRST, SECOND]), schedule, 0, 2)
    assert found["scores"] == [1.0, 2.0, 3.0, 4.0] and found["kept"] == [2, 3]
    found = halving.decision(PLAN, Archive(chunks, [FIRST, SECOND]), schedule, 1, 2)
    assert found["settings"] == [(0, 2), (0, 3)] and found["labels"] == [{"rate": 3}, {"rate": 4}]
    assert found["scores"] == [3.5, 2.5] and found["kept"] == [0]


def test_a_rung_may_be_spread_over_chunks_in_any_order():
    chunks = [
        Chunk(0, 0, 0, 4, ((0, 5), (1, 5))),
        Chunk(0, 0, 0, 4, ((2, 5), (3, 5))),
        Chunk(0, 1, 4, 8, ((3, 5),)),
        Chunk(0, 1, 4, 8, ((2, 5),)),
        Chunk(0, 2, 8, 16, ((2, 5),)),
    ]
    schedule = Schedule([2], [2], [5], [16], chunks)
    last = [[7.0] * 4 + [1, 2, 3, 6.0]]
    archive = Archive(chunks, [FIRST[:2], FIRST[2:], SECOND[1:2], SECOND[:1], last])
    assert halving.decision(PLAN, archive, schedule, 1, 2)["scores"] == [3.5, 2.5]
    assert halving.decision(PLAN, archive, schedule, 2, 2)["scores"] == [3.0]


def test_those_that_went_on_are_what_the_schedule_says():
    """A run that was begun under another rule goes on with the settings that it chose."""
    chunks = [Chunk(0, 0, 0, 4, ((0, 5), (1, 5), (2, 5), (3, 5))), Chunk(0, 1, 4, 8, ((0, 5), (3, 5)))]
    found = halving.decision(PLAN, Archive(chunks, [FIRST, SECOND]), Schedule([4], [2], [5], [16], chunks), 0, 2)
    assert found["scores"] == [1.0, 2.0, 3.0, 4.0] and found["kept"] == [0, 3]


@pytest.mark.slow
def test_those_that_go_on_are_what_they_would_have_been(tmp_path):
    options = {"seeds": 4, "updates": 80, "settings": {**TINY, "learning_rate": RATES}, "width": 5}
    full = pgjax.run("a2c", "PolicyProbe-pgjax", progress=False, **options)
    run = pgjax.run("a2c", "PolicyProbe-pgjax", progress=False, halving=2, out=tmp_path / "run", **options)
    stopped = run.metrics.stopped.all("seed").values
    assert (
        stopped.tolist() == [True, False, True] and run.metrics.stopped.any("seed").values.tolist() == stopped.tolist()
    )
    kept = {"learning_rate": 1e-1}
    for name in full.metrics.data_vars:
        np.testing.assert_array_equal(run.metrics[name].sel(kept), full.metrics[name].sel(kept), err_msg=name)
    for rate in (FROZEN, 1e-2):
        given_up = run.metrics.sel(learning_rate=rate)
        np.testing.assert_array_equal(given_up.loss[:, :40], full.metrics.loss.sel(learning_rate=rate)[:, :40])
        assert np.isnan(given_up.loss[:, 40:]).all() and np.isnan(given_up.final_return_greedy).all()
    assert [len(c.lanes) for c in run.schedule.chunks] == [5, 5, 2, 4]
    (decision,) = json.loads((tmp_path / "run" / "summary.json").read_text())["halving"]
    assert decision["kept"] == [1] and np.argmax(decision["scores"]) == 1
    assert run.summary["failed_lanes"] == 0
    # A setting that was given up keeps what it had learned.
    assert load.load(tmp_path / "run").lane_updates(learning_rate=FROZEN)[-1] == 40
    with pytest.raises(ValueError, match="gave settings up by halving; it can't be extended"):
        pgjax.extend(tmp_path / "run", seeds=9)


@pytest.mark.slow
def test_one_chunk_goes_through_every_rung(tmp_path, monkeypatch):
    """And Ctrl-C at the last segment of a rung is no end: the run goes on from there to the same."""
    options = {"seeds": 2, "updates": 8, "settings": {**TINY, "learning_rate": [1e-3, 3e-3, 1e-2, 1e-1]}, "halving": 2}
    options["width"] = 8
    run = pgjax.run("a2c", "PolicyProbe-pgjax", progress=False, **options)
    assert [(c.stage, c.first, c.last, len(c.lanes)) for c in run.schedule.chunks] == [
        (0, 0, 2, 8),
        (1, 2, 4, 4),
        (2, 4, 8, 2),
    ]
    assert not run.interrupted and len(run.summary["halving"]) == 2
    assert (~run.metrics.stopped).all("seed").sum() == 1

    update, calls = progress.Progress.update, []

    def interrupt(self, *arguments):
        update(self, *arguments)
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(progress.Progress, "update", interrupt)
        stopped = pgjax.run("a2c", "PolicyProbe-pgjax", progress=False, out=tmp_path / "run", **options)
    assert stopped.interrupted
    xarray.testing.assert_identical(pgjax.resume(tmp_path / "run", progress=False).metrics, run.metrics)


@pytest.mark.slow
def test_a_rung_whose_checkpoint_is_gone_is_trained_again_and_may_be_stopped(tmp_path, monkeypatch):
    """Its decision stands, and what is written of a run that was stopped there is short of it."""
    settings = {**TINY, "learning_rate": [1e-3, 3e-3, 1e-2, 1e-1]}
    options = {"seeds": 1, "updates": 8, "settings": settings, "halving": 2, "width": 4, "progress": False}
    run = pgjax.run("a2c", "PolicyProbe-pgjax", out=tmp_path / "run", **options)
    for place in (tmp_path / "run" / "chunks" / "00000").iterdir():
        shutil.rmtree(place)
    update = progress.Progress.update
    with monkeypatch.context() as patched:
        told = lambda *given: update(*given) or signal.raise_signal(signal.SIGINT)  # noqa: E731
        patched.setattr(progress.Progress, "update", told)
        stopped = pgjax.run("a2c", "PolicyProbe-pgjax", out=tmp_path / "run", checkpoint=0.0, **options)
    assert stopped.interrupted
    again = pgjax.run("a2c", "PolicyProbe-pgjax", out=tmp_path / "run", **options)
    xarray.testing.assert_identical(again.metrics, run.metrics)
    assert again.summary["halving"] == run.summary["halving"]


def test_groups_that_cannot_be_compared_are_refused():
    settings = {**TINY, "num_envs": [2, 16]}
    with pytest.raises(
        ValueError, match="halving=2: groups with 4 and 1 updates would have different numbers of rungs"
    ):
        pgjax.run("a2c", "PolicyProbe-pgjax", steps=32, settings=settings, halving=2)


@pytest.mark.slow
def test_settings_of_several_groups_are_chosen_together():
    settings = {**TINY, "num_envs": [2, 4], "learning_rate": [1e-3, 1e-1]}
    run = pgjax.run("a2c", "PolicyProbe-pgjax", seeds=2, updates=8, settings=settings, halving=2, progress=False)
    assert not run.interrupted
    goes_on = (~run.metrics.stopped).all("seed")
    assert goes_on.sum() == 1 and run.summary["halving"][0]["settings"] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    finals = np.isfinite(run.metrics.final_return_greedy).all(["seed", "episode"])
    np.testing.assert_array_equal(finals, goes_on)

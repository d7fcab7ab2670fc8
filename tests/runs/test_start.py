"""One small run, looked at from every side; and what happens when it goes wrong."""

import json
import signal

import jax
import numpy as np
import pytest

import pgjax
from pgjax.engine import checkpoints, chunks, progress

BEFORE = signal.getsignal(signal.SIGINT)  # a shell that runs this behind its back ignores it

TINY = {"hidden": (4,), "num_steps": 4, "eval_episodes": 4}


def run(**options):
    options["settings"] = {**TINY, **options.get("settings", {})}
    return pgjax.run("a2c", "PolicyProbe-pgjax", progress=False, **options)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "one"
    settings = {"learning_rate": [1e-3, 1e-2], "num_envs": [2, 4]}
    return run(seeds=3, seed=7, updates=6, settings=settings, width=6, out=out)


def test_metrics_have_labelled_axes(result):
    metrics = result.metrics
    assert metrics.episode_return.dims == ("learning_rate", "num_envs", "seed", "update")
    assert metrics.episode_return.shape == (2, 2, 3, 6)
    assert metrics.final_return_stochastic.dims == ("learning_rate", "num_envs", "seed", "episode")
    lane = metrics.sel(learning_rate=1e-2, num_envs=4, seed=8)
    assert lane.episode_return.shape == (6,)
    assert np.isfinite(metrics.episode_return).all()


def test_environment_steps_follow_the_number_of_environments(result):
    steps = result.metrics.env_steps
    np.testing.assert_array_equal(steps.sel(num_envs=2, learning_rate=1e-3, seed=7), 8 * np.arange(1, 7))
    np.testing.assert_array_equal(steps.sel(num_envs=4, learning_rate=1e-3, seed=7), 16 * np.arange(1, 7))


def test_environment_steps_are_a_plain_axis_where_all_lanes_agree():
    metrics = run(seeds=2, updates=2, settings={"num_envs": 2}).metrics
    assert metrics.env_steps.dims == ("update",)


@pytest.mark.slow
def test_whole_episodes_count_the_steps_they_took():
    small = {"hidden": (4,), "num_envs": 4, "eval_episodes": 4}
    metrics = pgjax.run("reinforce", "PolicyProbe-pgjax", seeds=2, updates=2, settings=small, progress=False).metrics
    # Every episode of this probe is one step long, whatever the time limit.
    np.testing.assert_array_equal(metrics.env_steps, [4, 8])


def test_the_folder_holds_what_the_object_holds(result):
    import xarray

    assert sorted(p.name for p in result.path.iterdir()) == [
        "chunks",
        "chunks.json",
        "config.json",
        "curve.png",
        "metrics.zarr",
        "summary.json",
        "work",
    ]
    stored = xarray.open_zarr(result.path / "metrics.zarr", consolidated=False)
    xarray.testing.assert_identical(stored.load(), result.metrics)
    config = json.loads((result.path / "config.json").read_text())
    assert config["algorithm"] == "a2c" and config["seeds"] == [7, 8, 9]
    assert config["versions"]["jax"] == jax.__version__ and config["device"]["platform"] == jax.default_backend()
    assert json.loads((result.path / "summary.json").read_text())["lanes"] == 12
    assert (result.path / "curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def state_of(result, number):
    """The TrainState of a chunk at its end, as the folder has it."""
    chunk = result.schedule.chunks[number]
    shapes = checkpoints.kept_shapes(result.plan.groups[chunk.group], result.schedule.widths[chunk.group])
    return result.archive.load(number, shapes).state


def test_the_whole_state_of_every_lane_is_saved(result):
    again = run(seeds=3, seed=7, updates=6, width=6, settings={"learning_rate": [1e-3, 1e-2], "num_envs": [2, 4]})
    for number in range(2):
        saved, kept = state_of(result, number), state_of(again, number)
        assert jax.tree.structure(saved) == jax.tree.structure(kept)
        jax.tree.map(np.testing.assert_array_equal, saved, kept)
        assert saved.updates.tolist() == [6] * 6


def test_a_lane_is_found_by_its_labels(result):
    env, policy, params = result.lane(learning_rate=1e-2, num_envs=4, seed=9)
    kept = result.plan.groups[1].learner.policy(state_of(result, 1).learner)[1]
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(kept), strict=True):
        np.testing.assert_array_equal(a, b[5])
    with pytest.raises(ValueError, match="no lane"):
        result.lane(learning_rate=5.0, num_envs=4, seed=9)


@pytest.mark.slow
def test_the_same_seed_alone_has_the_same_lane(result):
    alone = run(seeds=[8], updates=6, settings={"learning_rate": 1e-3, "num_envs": 2}).metrics
    together = result.metrics.sel(learning_rate=1e-3, num_envs=2, seed=[8])
    # Widths differ, so rounding may; these are the first updates.
    np.testing.assert_allclose(alone.episode_return, together.episode_return, atol=1e-3)


def test_summary_is_computed_from_the_evaluation_episodes(result):
    row = next(r for r in result.summary["settings"] if r["setting"] == {"learning_rate": 1e-3, "num_envs": 2})
    finals = result.metrics.final_return_stochastic.sel(learning_rate=1e-3, num_envs=2).mean("episode")
    np.testing.assert_allclose(row["stochastic"]["seeds"], finals, rtol=1e-6)
    assert row["stochastic"]["iqm"] == pytest.approx(float(finals.mean()), rel=1e-6)  # nothing to trim of three
    low, high = row["stochastic"]["iqm_95"]
    assert low <= row["stochastic"]["iqm"] <= high


@pytest.mark.slow
def test_a_failed_lane_is_reported_and_leaves_the_others_as_they_were():
    grid = {"num_envs": 2, "learning_rate": [1e-3, 3e38]}
    healthy = run(seeds=2, updates=4, settings={**grid, "learning_rate": [1e-3, 1e-2]})
    broken = run(seeds=2, updates=4, settings=grid)
    assert broken.summary["failed_lanes"] == 2
    assert [row["failed_seeds"] for row in broken.summary["settings"]] == [[], [0, 1]]
    assert "stochastic" not in broken.summary["settings"][1]
    assert np.isnan(broken.metrics.loss[1, :, -1]).all()
    for name in broken.metrics.data_vars:
        np.testing.assert_array_equal(broken.metrics[name][0], healthy.metrics[name][0])


@pytest.mark.slow
def test_interruption_writes_what_there_is(tmp_path, monkeypatch):
    update = progress.Progress.update

    def interrupt_once(self, *arguments):
        update(self, *arguments)
        signal.raise_signal(signal.SIGINT)
        monkeypatch.setattr(progress.Progress, "update", update)

    monkeypatch.setattr(progress.Progress, "update", interrupt_once)
    stopped = run(seeds=2, updates=80, width=2, settings={"num_envs": 2}, out=tmp_path / "stopped")
    assert stopped.interrupted and stopped.summary["interrupted"]
    done = np.isfinite(stopped.metrics.loss.values).all(axis=0)
    assert done[:2].all() and not done[2:].any()
    assert {"metrics.zarr", "summary.json", "curve.png", "chunks"} <= {p.name for p in stopped.path.iterdir()}


def test_nothing_is_written_for_bad_input(tmp_path):
    with pytest.raises(ValueError, match="no hyperparameter"):
        run(updates=1, settings={"nothing": 1.0}, out=tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match=r"out: folder '.*there' exists; choose another or remove it"):
        run(updates=1, settings={"num_envs": 2}, out=tmp_path / "there")
    assert not list((tmp_path / "there").iterdir())


@pytest.mark.parametrize("updates", [1, 7, 39, 40, 157, 400, 1000])
def test_segments_divide_the_updates(updates):
    length = chunks.segment(updates)
    assert updates % length == 0 and length <= max(1, updates // 40)


def test_interrupt_handler_is_put_back(result):
    assert signal.getsignal(signal.SIGINT) is BEFORE

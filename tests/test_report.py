import numpy as np
import pytest
import xarray
from scipy import stats

from pgjax import report


def dataset(per_lane=False, failed=()):
    g = np.random.default_rng(0)
    curves = np.cumsum(g.random((2, 6, 10)), axis=-1)
    finite = np.ones((2, 6), bool)
    for row in failed:
        finite[row] = False
        curves[row] = np.nan
    steps = 100.0 * np.arange(1, 11)
    if per_lane:
        steps = steps * g.uniform(0.5, 1.0, (2, 6, 1))
    dims = ("learning_rate", "seed", "update")
    return xarray.Dataset(
        {
            "episode_return": (dims, curves),
            "final_return_stochastic": (("learning_rate", "seed", "episode"), g.normal(5, 1, (2, 6, 4))),
            "final_return_greedy": (("learning_rate", "seed", "episode"), g.normal(6, 1, (2, 6, 4))),
            "finite": (dims[:2], finite),
        },
        {
            "learning_rate": [0.1, 0.2],
            "seed": range(6),
            "update": range(1, 11),
            "env_steps": (dims, steps) if per_lane else ("update", steps),
        },
    )


@pytest.mark.parametrize("count", [1, 3, 4, 16, 17, 32])
def test_iqm_is_scipys_trimmed_mean(count):
    values = np.random.default_rng(count).normal(size=(count, 3))
    np.testing.assert_allclose(report.iqm(values, axis=0), stats.trim_mean(values, 0.25, axis=0))


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    g = np.random.default_rng(1)
    trials, hits = 300, 0
    for trial in range(trials):
        low, high = report.bootstrap(g.normal(size=30), np.mean, draws=300, seed=trial)
        hits += low <= 0 <= high
    # Percentile intervals of 30 values cover a little less than their level: 93 % here.
    expected = 0.935
    assert abs(hits / trials - expected) < 4 * (expected * (1 - expected) / trials) ** 0.5


def test_bootstrap_agrees_with_scipys():
    values = np.random.default_rng(2).exponential(size=40)
    low, high = report.bootstrap(values, np.mean, draws=20_000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=0).confidence_interval
    np.testing.assert_allclose([low, high], theirs, rtol=0.02)


def test_summary_leaves_failed_lanes_out_and_names_them():
    metrics = dataset(failed=[(1, 2)])
    rows = report.summarise(metrics)
    assert [row["failed_seeds"] for row in rows] == [[], [2]]
    finals = metrics.final_return_stochastic.mean("episode").values
    good = np.delete(finals[1], 2)
    assert rows[1]["stochastic"]["iqm"] == pytest.approx(stats.trim_mean(good, 0.25))
    assert rows[0]["setting"] == {"learning_rate": 0.1}


def test_lanes_of_different_lengths_share_an_axis_and_keep_their_last_value():
    metrics = dataset(per_lane=True)
    chosen = metrics.sel(learning_rate=0.1)
    x, y = report.on_common_steps(chosen, "episode_return", np.ones(6, bool))
    steps, curves = chosen.env_steps.values, chosen.episode_return.values
    assert x[0] == steps[:, 0].max() and x[-1] == steps[:, -1].max()
    np.testing.assert_allclose(y[:, -1], curves[:, -1])
    np.testing.assert_allclose(y[3], np.interp(x, steps[3], curves[3]))


@pytest.mark.parametrize(
    "options", [{}, {"per_lane": True}, {"failed": [(0, 1), (1, 0)]}, {"failed": [(0, slice(None))]}]
)
def test_the_curve_is_drawn(tmp_path, options):
    report.curve(dataset(**options), tmp_path / "curve.png", title="a title")
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_settings_are_described_in_one_line():
    assert report.describe({"learning_rate": 1e-3, "baseline": "none"}) == "learning_rate=0.001 baseline=none"

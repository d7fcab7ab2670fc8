"""Summaries, tables and figures of synthetic datasets, of a grid and of a sampled search."""

import io
import itertools
import json
import pathlib

import numpy as np
import pytest
import xarray
from rich.console import Console
from scipy import stats

from pgjax import analysis
from pgjax.analysis import axes, drawing
from pgjax.runs import folder


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


def grid(values, score, seeds=4, spread=1.0):
    """Every combination of `values` (name -> list), with the final return score(**values) plus noise."""
    g = np.random.default_rng(1)
    shape = tuple(map(len, values.values()))
    level = np.array([score(**dict(zip(values, row, strict=True))) for row in itertools.product(*values.values())])
    finals = level.reshape(*shape, 1, 1) + spread * g.normal(size=(*shape, seeds, 3))
    curves = finals.mean(axis=-1, keepdims=True) * np.linspace(0.2, 1, 5)
    dims = (*values, "seed")
    data = {"episode_return": ((*dims, "update"), curves), "finite": (dims, np.ones((*shape, seeds), bool))}
    data |= {f"final_return_{kind}": ((*dims, "episode"), finals) for kind in ("stochastic", "greedy")}
    coords = {k: np.array(v, object) if isinstance(v[0], str) else v for k, v in values.items()}
    return xarray.Dataset(data, {**coords, "seed": range(seeds), "update": range(1, 6), "env_steps": _steps(5)})


def _steps(updates):
    return ("update", 100.0 * np.arange(1, updates + 1))


def search(settings=12, seeds=4, stopped=()):
    """A sampled search: the return rises with the logarithm of the learning rate, and nothing else matters."""
    g = np.random.default_rng(2)
    drawn = {
        "learning_rate": 10 ** g.uniform(-5, -2, settings),
        "clip_eps": g.uniform(0.1, 0.3, settings),
        "baseline": g.choice(np.array(["none", "value"], object), settings),
    }
    level = 50 + 10 * np.log10(drawn["learning_rate"])
    finals = level[:, None, None] + 0.1 * g.normal(size=(settings, seeds, 3))
    curves = finals.mean(axis=-1, keepdims=True) * np.linspace(0.2, 1, 5)
    halted = np.zeros((settings, seeds), bool)
    for h in stopped:
        halted[h], curves[h, :, 2:], finals[h] = True, np.nan, np.nan
    dims = ("setting", "seed")
    data = {"episode_return": ((*dims, "update"), curves), "finite": (dims, np.ones((settings, seeds), bool))}
    data |= {f"final_return_{kind}": ((*dims, "episode"), finals) for kind in ("stochastic", "greedy")}
    data |= {"stopped": (dims, halted)} if len(stopped) else {}
    coords = {name: ("setting", values) for name, values in drawn.items()}
    coords |= {"setting": range(settings), "seed": range(seeds), "update": range(1, 6), "env_steps": _steps(5)}
    return xarray.Dataset(data, coords)


@pytest.fixture
def drawn(monkeypatch):
    """Every figure that is made, to look into."""
    figures, make = [], drawing.canvas

    def canvas(*arguments, **options):
        figures.append(make(*arguments, **options))
        return figures[-1]

    monkeypatch.setattr(drawing, "canvas", canvas)
    return figures


def words(figure):
    """Every text of a figure."""
    from matplotlib.text import Text

    return " | ".join(text.get_text() for text in figure.findobj(Text) if text.get_text())


def test_summary_leaves_failed_lanes_out_and_names_them():
    metrics = dataset(failed=[(1, 2)])
    rows = analysis.summarise(metrics)
    assert [row["failed_seeds"] for row in rows] == [[], [2]]
    finals = metrics.final_return_stochastic.mean("episode").values
    good = np.delete(finals[1], 2)
    assert rows[1]["stochastic"]["iqm"] == pytest.approx(stats.trim_mean(good, 0.25))
    assert rows[1]["stochastic"]["seeds"][2] is None
    assert rows[0]["setting"] == {"learning_rate": 0.1} and rows[0]["stopped"] == 0


def test_fewer_evaluation_episodes_than_other_settings_have_are_no_failure():
    metrics = dataset()
    metrics.final_return_stochastic[1, :, 2:] = np.nan  # as the driver fills up
    wanted = stats.trim_mean(metrics.final_return_stochastic[1, :, :2].mean("episode").values, 0.25)
    assert analysis.summarise(metrics)[1]["stochastic"]["iqm"] == pytest.approx(wanted)
    metrics.final_return_stochastic[1, 3, 0] = np.nan  # an episode of one lane: its mean is not a number
    assert analysis.summarise(metrics)[1]["stochastic"]["seeds"][3] is None


def test_stopped_lanes_are_counted_and_are_no_failures():
    metrics = search(stopped=(3, 5))
    metrics.finite[3, 1] = False  # what is stopped is reported as stopped, whatever became of it
    metrics.finite[4, 2] = False
    rows = analysis.summarise(metrics)
    assert [row["stopped"] for row in rows] == [4 * (h in (3, 5)) for h in range(12)]
    assert [row["failed_seeds"] for row in rows] == [[2] if h == 4 else [] for h in range(12)]
    assert "stochastic" not in rows[3] and len(rows[4]["stochastic"]["seeds"]) == 4


def test_settings_of_a_search_are_selectors_and_their_labels_what_was_drawn():
    metrics = search()
    selectors = analysis.settings_of(metrics)
    assert selectors == [{"setting": h} for h in range(12)]
    for h, selector in enumerate(selectors):
        wanted = {name: metrics[name].values[h] for name in ("learning_rate", "clip_eps", "baseline")}
        assert analysis.labels(metrics, selector) == wanted
        assert metrics.sel(selector).finite.dims == ("seed",)
    assert analysis.summarise(metrics)[7]["setting"] == analysis.labels(metrics, {"setting": 7})
    # Labels need not be places: settings that were left out leave gaps.
    kept = metrics.isel(setting=[2, 9])
    assert [analysis.labels(kept, s)["clip_eps"] for s in analysis.settings_of(kept)] == list(kept.clip_eps.values)


def test_labels_of_a_grid_are_its_selectors_also_where_an_axis_is_called_setting():
    metrics = dataset().rename(learning_rate="setting")
    assert [analysis.labels(metrics, s) for s in analysis.settings_of(metrics)] == [{"setting": 0.1}, {"setting": 0.2}]
    one = dataset().isel(learning_rate=0, drop=True)
    assert analysis.settings_of(one) == [{}] and analysis.labels(one, {}) == {}


def test_settings_are_ranked_by_final_return_and_those_without_one_by_where_they_ended():
    metrics = search(stopped=(0, 1))
    level = np.log10(metrics.learning_rate.values)
    order = analysis.ranked(analysis.rows(metrics))
    assert order[:10] == sorted(range(2, 12), key=lambda h: -level[h])
    assert order[10:] == sorted((0, 1), key=lambda h: -metrics.episode_return.values[h, :, 1].mean())


def test_settings_of_several_datasets_carry_their_label_and_share_an_axis_of_seeds():
    other = dataset().assign_coords(seed=range(4, 10))
    rows = analysis.rows({"a": dataset(), "b": other})
    assert [row.name for row in rows] == ["a learning_rate=0.1", "a learning_rate=0.2"] + [
        "b learning_rate=0.1",
        "b learning_rate=0.2",
    ]
    seeds, finals = analysis.scores(rows)
    assert list(seeds) == list(range(10)) and finals.shape == (10, 4)
    assert np.isnan(finals[:4, 2:]).all() and np.isnan(finals[6:, :2]).all()
    np.testing.assert_allclose(finals[4:, 2], other.final_return_stochastic[0].mean("episode"))


def test_lanes_of_different_lengths_share_an_axis_and_keep_their_last_value():
    metrics = dataset(per_lane=True)
    chosen = metrics.sel(learning_rate=0.1)
    x, y = analysis.on_common_steps(chosen, "episode_return", np.ones(6, bool))
    steps, curves = chosen.env_steps.values, chosen.episode_return.values
    assert x[0] == steps[:, 0].max() and x[-1] == steps[:, -1].max()
    np.testing.assert_allclose(y[:, -1], curves[:, -1])
    np.testing.assert_allclose(y[3], np.interp(x, steps[3], curves[3]))


@pytest.mark.parametrize(
    "options", [{}, {"per_lane": True}, {"failed": [(0, 1), (1, 0)]}, {"failed": [(0, slice(None))]}]
)
def test_the_curve_is_drawn(tmp_path, options):
    analysis.curve(dataset(**options), tmp_path / "curve.png", title="a title")
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_a_curve_is_the_iqm_of_the_lanes_that_did_not_fail(drawn):
    metrics = dataset(failed=[(0, 1)])
    analysis.curve(metrics, io.BytesIO())
    lines = drawn[0][1][0, 0].get_lines()
    wanted = stats.trim_mean(np.delete(metrics.episode_return.values[0], 1, axis=0), 0.25)
    np.testing.assert_allclose(lines[0].get_ydata(), wanted)
    assert [line.get_label() for line in lines] == ["learning_rate=0.1 (1 failed)", "learning_rate=0.2"]


def test_lanes_whose_turn_never_came_hide_none_of_the_others(drawn):
    metrics = dataset()
    metrics.episode_return[1, 2:] = np.nan
    analysis.curve(metrics, io.BytesIO())
    line = drawn[0][1][0, 0].get_lines()[1]
    np.testing.assert_allclose(line.get_ydata(), metrics.episode_return.values[1, :2].mean(axis=0))
    assert line.get_label() == "learning_rate=0.2 (4 not trained)"


def test_of_many_settings_the_curve_names_the_best_and_the_worst_and_says_so(drawn):
    metrics = search(30, stopped=(4,))
    analysis.curve(metrics, io.BytesIO())
    figure, ((panel,),) = drawn[0]
    named = [line.get_label() for line in panel.get_lines() if not line.get_label().startswith("_")]
    rows = analysis.rows(metrics)
    order = analysis.ranked(rows)
    assert named == [*(rows[h].name for h in order[:5]), f"worst: {rows[4].name} (all stopped)"]
    assert len(panel.get_lines()) == 30
    assert "the best 5 and the worst of 30 settings by IQM; grey: the other 24" in words(figure)
    assert len(panel.get_lines()[5].get_xdata()) == 2  # up to where it was stopped
    analysis.curve(metrics.isel(setting=slice(5, 15)), io.BytesIO())
    assert "grey" not in words(drawn[1][0])


def test_the_forest_is_ordered_by_rank_and_says_what_it_leaves_out(drawn):
    metrics = search(40, stopped=(4,))
    analysis.forest(metrics, io.BytesIO(), best=5, worst=2)
    figure, ((panel,),) = drawn[0]
    rows = analysis.rows(metrics)
    order = analysis.ranked(rows)[:39]
    lines = [label.get_text().replace("\n", " ") for label in panel.get_yticklabels()]
    assert lines == [rows[h].name for h in order[:5]] + ["(32 settings between are not drawn)"] + [
        rows[h].name for h in order[-2:]
    ]
    assert "1 settings without a final return" in words(figure) and "39 (" in words(figure)
    assert list(panel.get_yticks()) == sorted(panel.get_yticks(), reverse=True)


def test_profiles_fall_from_one_to_zero_and_leave_failed_runs_out(drawn):
    metrics = dataset(failed=[(0, 1)])
    analysis.profiles(metrics, io.BytesIO())
    panel = drawn[0][1][0, 0]
    first = panel.get_lines()[0]
    finals = np.delete(metrics.final_return_stochastic[0].mean("episode").values, 1)
    wanted = [(finals > tau).mean() for tau in first.get_xdata()]
    np.testing.assert_allclose(first.get_ydata(), wanted)
    assert wanted[0] == 1 and wanted[-1] == 0 and first.get_label().endswith("(1 failed)")


def test_influence_is_the_adjusted_share_of_variance():
    """Against the adjusted R^2 of a regression on the groups, by least squares."""
    metrics = grid({"a": [1, 2, 3], "b": [0.1, 0.2], "c": ["x", "y"]}, lambda a, b, c: 10 * a + 20 * b + (c == "x"))
    found = analysis.influence(metrics)
    y = np.array([stats.trim_mean(row.finals, 0.25) for row in analysis.rows(metrics)])
    for place, name in enumerate("abc"):
        codes = np.array([row[place] for row in itertools.product(range(3), range(2), range(2))])
        design = np.eye(codes.max() + 1)[codes]
        rest = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
        adjusted = 1 - (rest @ rest / (12 - design.shape[1])) / y.var(ddof=1)
        assert found[name] == pytest.approx(max(0.0, adjusted))
    assert list(found) == ["a", "b", "c"] and found["a"] > 0.8


def test_influence_finds_the_hyperparameter_that_matters_in_a_search():
    found = analysis.influence(search(60))
    assert list(found)[0] == "learning_rate" and found["learning_rate"] > 0.8 and found["baseline"] < 0.1


def test_an_axis_is_logarithmic_where_its_values_span_a_decade_and_grouped_where_they_are_many():
    rate, clip, base = (
        next(a for a in axes.swept(analysis.rows(search(60))) if a.name == n)
        for n in ("learning_rate", "clip_eps", "baseline")
    )
    assert rate.log and not clip.log and not rate.few and not clip.few and base.few and not base.numeric
    for axis in (rate, clip):
        assert axis.group.min() == 0 and axis.group.max() == len(axis.centre) - 1 == 7
        inside = (axis.edges[axis.group] <= axis.position * (1 + 1e-9)) & (
            axis.position <= axis.edges[axis.group + 1] * (1 + 1e-9)
        )
        assert inside.all() and np.bincount(axis.group).min() >= 7  # quantiles: as many settings in each
    three = axes.swept(analysis.rows(grid({"a": [1e-3, 3e-4, 1e-4], "b": [7]}, lambda a, b: a)))
    assert [a.name for a in three] == ["a"] and three[0].log and three[0].few
    assert three[0].distinct == [1e-4, 3e-4, 1e-3] and three[0].ticks() == ["0.0001", "0.0003", "0.001"]


def test_sensitivity_is_the_iqm_over_seeds_and_the_other_hyperparameters(drawn):
    metrics = grid({"a": [1e-4, 1e-3, 1e-2], "b": [0.1, 0.2]}, lambda a, b: np.log10(a) * 10 + b)
    analysis.sensitivity(metrics, io.BytesIO())
    panel = drawn[0][1][0, 0]
    assert panel.get_xlabel() == "a" and panel.get_xscale() == "log"
    lines = [line for line in panel.get_lines() if len(line.get_xdata()) == 3 and line.get_linewidth() > 1.5]
    finals = metrics.final_return_stochastic.mean("episode").values
    wanted = [stats.trim_mean(finals[i].ravel(), 0.25) for i in range(3)]
    np.testing.assert_allclose(lines[0].get_ydata(), wanted)
    grey = [line for line in panel.get_lines() if line.get_color() == "0.65"]
    np.testing.assert_allclose([line.get_ydata() for line in grey], stats.trim_mean(finals, 0.25, axis=-1).T)


def test_heat_maps_hold_the_iqm_of_each_cell_and_name_what_was_left_out(drawn):
    names = {"a": [1, 2, 3], "b": [1, 2], "c": [1, 2], "d": [1, 2], "e": [1, 2]}
    metrics = grid(names, lambda a, b, c, d, e: 100 * a + 50 * b + 20 * c + 10 * d + e)
    analysis.heat_maps(metrics, io.BytesIO())
    figure, panels = drawn[0]
    assert panels.size == 6 and "left out, of less influence: e" in words(figure)
    image = panels.flat[0].collections[0]
    finals = metrics.final_return_stochastic.mean("episode").transpose("b", "a", ...).values.reshape(2, 3, -1)
    np.testing.assert_allclose(np.asarray(image.get_array()).reshape(2, 3), stats.trim_mean(finals, 0.25, axis=-1))
    with pytest.raises(analysis.NothingToDrawError, match="needs two hyperparameters"):
        analysis.heat_maps(dataset(), io.BytesIO())


def test_parallel_coordinates_end_at_the_final_return(drawn):
    metrics = search(stopped=(2,))
    analysis.parallel(metrics, io.BytesIO())
    figure, ((panel,),) = drawn[0]
    lines = [line for line in panel.get_lines() if len(line.get_ydata()) == 4]
    y = np.sort([stats.trim_mean(r.finals, 0.25) for r in analysis.rows(metrics) if np.isfinite(r.finals).all()])
    np.testing.assert_allclose([line.get_ydata()[-1] for line in lines], (y - y[0]) / (y[-1] - y[0]))
    rates = np.sort(np.log10(np.delete(metrics.learning_rate.values, 2)))
    place = [label.get_text() for label in panel.get_xticklabels()].index("learning_rate")
    heights = np.sort([line.get_ydata()[place] for line in lines])
    np.testing.assert_allclose(heights, (rates - rates[0]) / (rates[-1] - rates[0]), atol=1e-12)
    assert "1 settings without a final return are not drawn" in words(figure)


FIGURES = (
    analysis.curve,
    analysis.forest,
    analysis.profiles,
    analysis.sensitivity,
    analysis.heat_maps,
    analysis.parallel,
)
DATASETS = {
    "grid": grid({"learning_rate": [1e-3, 1e-2], "b": [True, False], "c": ["x$", "_y"]}, lambda learning_rate, b, c: b),
    "search": search(30, stopped=(1, 2)),
    "one seed": search(30, seeds=1),
    "all equal": grid({"a": [1, 2], "b": [1, 2]}, lambda a, b: 3.0, spread=0.0),
    "without a number": grid({"a": [0.1, float("inf")], "b": [1, 2]}, lambda a, b: b),
}


@pytest.mark.slow
@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", DATASETS)
def test_every_figure_is_drawn_of_every_form_of_dataset(figure, name, tmp_path):
    path = tmp_path / "figure.png"
    figure(DATASETS[name], path, title="$ and _")
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 8000


def small(value=None, settings=2, seeds=3, updates=4, episodes=2, finite=True):
    """A sweep over two hyperparameters whose every number is `value`, or draws of a normal one."""
    shape, dims = (settings, settings, seeds), ("a", "b", "seed")

    def numbers(count):
        drawn = np.random.default_rng(count).normal(size=(*shape, count))
        return drawn if value is None else np.full(drawn.shape, value)

    data = {"episode_return": ((*dims, "update"), numbers(updates)), "finite": (dims, np.full(shape, finite))}
    for kind in ("stochastic", "greedy"):
        data[f"final_return_{kind}"] = ((*dims, "episode"), numbers(episodes))
        data[f"final_length_{kind}"] = ((*dims, "episode"), np.ones((*shape, episodes)))
    coords = {"a": 10.0 ** np.arange(settings), "b": range(settings), "seed": range(seeds)}
    return xarray.Dataset(data, coords | {"update": range(1, updates + 1), "env_steps": _steps(updates)})


def changed(dataset, name, value, *place):
    dataset[name] = dataset[name].astype(np.float32)
    dataset[name].values[place] = value
    return dataset


ODD = {
    "all zero": small(0.0),
    "all equal and large": small(1e20),
    "equal but for rounding": changed(small(0.1), "final_return_stochastic", np.nextafter(np.float32(0.1), 1), 0),
    "all NaN": small(np.nan),
    "all infinite": small(np.inf),
    "the ends of float32": changed(small(-3.4e38), "final_return_stochastic", 3.4e38, 0),
    "tiny": small(1e-45),
    "a curve with an infinite point": changed(small(), "episode_return", np.inf, 0, 0, 1, 2),
    "a curve of NaN": changed(small(), "episode_return", np.nan, 0),
    "an evaluation that overflows": changed(small(), "final_return_stochastic", np.inf, 0, 0, 1, 0),
    "a setting whose evaluation overflows": changed(small(), "final_return_stochastic", -np.inf, 0, 1),
    "one point": small(settings=1, seeds=1, updates=1, episodes=1),
    "one point of every setting": small(seeds=1, updates=1, episodes=1),
    "no update": small(updates=0),
    "no episode": small(episodes=0),
    "all failed": small(np.nan, finite=False),
}
UNDRAWN = {
    "a greedy evaluation that overflows": changed(small(), "final_return_greedy", np.nan),
    "two seeds": small(seeds=2),
    "one seed left": small()
    .where(lambda x: x.seed == 1)
    .assign(finite=(("a", "b", "seed"), np.tile([False, True, False], (2, 2, 1)))),
}


@pytest.mark.slow
@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", ODD)
def test_every_figure_is_drawn_of_odd_numbers_or_says_why_not_without_a_warning(figure, name):
    file = io.BytesIO()
    try:
        figure(ODD[name], file)
    except analysis.NothingToDrawError as error:
        assert str(error)
        assert name in ("all NaN", "all infinite", "no episode", "all failed", "one point")
    else:
        assert file.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize("metrics", [*ODD.values(), *UNDRAWN.values()], ids=[*ODD, *UNDRAWN])
def test_summary_and_table_are_made_of_odd_numbers_without_a_warning(metrics):
    summary = analysis.summarise(metrics)
    json.dumps(folder.plain(summary), allow_nan=False)
    assert len(summary) == metrics.sizes["a"] ** 2 and printed(metrics)
    for row in summary:
        for kind in ("stochastic", "greedy"):
            assert kind not in row or np.isfinite([row[kind]["iqm"], row[kind]["mean"], row[kind]["std"] or 0.0]).all()


def test_a_lane_whose_evaluation_overflows_is_counted_and_named_everywhere(drawn):
    metrics = changed(small(), "final_return_stochastic", np.inf, 0, 1, 2, 0)
    metrics.finite[1, 0, 1] = False
    rows, summary = analysis.rows(metrics), analysis.summarise(metrics)
    assert [row["unscored_seeds"] for row in summary] == [[], [2], [], []]
    assert [row["failed_seeds"] for row in summary] == [[], [], [1], []]
    assert summary[1]["stochastic"]["scored"] == 2 and summary[1]["seeds"] == 3 and summary[1]["greedy"]["scored"] == 3
    assert rows[1].lost == " (1 without a finite score)" and rows[1].counted == "2 of 3" and rows[0].counted == "3"
    text = printed(metrics)
    assert "final return over 2 to 3 of 3 seeds" in text and "2 of 3" in text and "no score" in text
    lines = analysis.lost({"settings": summary})
    assert lines == ["failed lanes: a=10 b=0 seed=1", "lanes without a finite score: a=1 b=1 seed=2"]
    for figure in (analysis.curve, analysis.forest, analysis.profiles):
        figure(metrics, io.BytesIO())
        assert "(1 without a finite score)" in words(drawn[-1][0]).replace("\n", " ")


def test_the_mean_of_an_evaluation_that_float32_cannot_add_up_is_a_number():
    metrics = changed(small(), "final_return_stochastic", 3e38, 0, 0, 0)
    assert analysis.summarise(metrics)[0]["stochastic"]["seeds"][0] == pytest.approx(3e38)


def test_one_seed_has_no_interval_and_few_seeds_are_said(drawn):
    one, three = small(seeds=1), small(seeds=3)
    assert [row["stochastic"]["iqm_95"] for row in analysis.summarise(one)] == [None] * 4
    text = printed(one)
    assert "One seed says nothing about other seeds: there are no intervals." in text and " to " not in text
    assert "3 seeds: 95 % intervals are as wide" in printed(three) and "seeds:" not in printed(small(seeds=8))
    for figure in (analysis.curve, analysis.forest, analysis.profiles, analysis.sensitivity):
        for metrics, said in ((one, "One seed says nothing"), (three, "3 seeds: 95 % intervals are as wide")):
            figure(metrics, io.BytesIO())
            assert said in words(drawn[-1][0]).replace("\n", " ")


def test_the_interval_of_two_seeds_runs_off_the_axis_instead_of_hiding_the_lines(drawn):
    metrics = small(seeds=2)
    analysis.curve(metrics, io.BytesIO())
    panel = drawn[0][1][0, 0]
    lines = np.concatenate([line.get_ydata() for line in panel.get_lines()])
    low, high = panel.get_ylim()
    assert low < lines.min() and high > lines.max() and high - low < 3 * np.ptp(lines)


def test_settings_that_look_alike_get_as_many_digits_as_tell_them_apart():
    alike = {"learning_rate": ("setting", [0.00123451, 0.00123452, 0.0099999]), "n": ("setting", [4, 4, 4])}
    metrics = search(3).drop_vars(["learning_rate", "clip_eps", "baseline"]).assign_coords(alike)
    names = [row.name for row in analysis.rows(metrics)]
    assert names == ["learning_rate=0.00123451 n=4", "learning_rate=0.00123452 n=4", "learning_rate=0.0099999 n=4"]
    assert all(name in printed(metrics) for name in names)
    assert next(a for a in axes.swept(analysis.rows(metrics))).ticks() == ["0.00123451", "0.00123452", "0.0099999"]
    # The same numbers twice: by the number of the setting.
    alike["learning_rate"] = ("setting", [0.1, 0.2, 0.1])
    names = [row.name for row in analysis.rows(metrics.assign_coords(alike))]
    assert names == ["learning_rate=0.1 n=4 (setting 0)", "learning_rate=0.2 n=4", "learning_rate=0.1 n=4 (setting 2)"]


def test_equal_settings_have_no_influence_whatever_their_rounding():
    metrics = grid({"a": [1, 2], "b": [1, 2, 3]}, lambda a, b: 0.1, spread=0.0)
    metrics["final_return_stochastic"] = metrics.final_return_stochastic + 1e-17 * np.arange(6).reshape(2, 3, 1, 1)
    assert analysis.influence(metrics) == {"a": 0.0, "b": 0.0}


def test_a_dataset_without_final_returns_has_curves_and_says_that_there_is_nothing_else(drawn):
    metrics = dataset().drop_vars(["final_return_stochastic", "final_return_greedy"])
    analysis.curve(metrics, io.BytesIO())
    assert len(drawn[0][1][0, 0].get_lines()) == 2
    for figure in (analysis.forest, analysis.profiles, analysis.sensitivity, analysis.heat_maps, analysis.parallel):
        with pytest.raises(analysis.NothingToDrawError, match="final return"):
            figure(metrics, io.BytesIO())


def printed(metrics, width=200):
    out = io.StringIO()
    Console(file=out, width=width).print(analysis.table({"eval_episodes": 3, "settings": analysis.summarise(metrics)}))
    return out.getvalue()


def test_the_table_shows_the_best_20_and_says_how_many_more_there_are():
    metrics = search(33, stopped=(0,))
    rows, text = analysis.rows(metrics), printed(metrics)
    order = analysis.ranked(rows)
    lines = [line for line in text.splitlines() if "learning_rate=" in line]
    assert [line.split("│")[1].strip() for line in lines] == [rows[h].name for h in order[:20]]
    assert "the best 20 of 33 settings by IQM; 13 more are in summary.json" in text and "stopped" in text


def test_a_short_table_keeps_the_order_of_the_grid():
    text = printed(dataset(failed=[(0, slice(None))]))
    assert text.index("learning_rate=0.1") < text.index("learning_rate=0.2")
    assert "more are in" not in text and "stopped" not in text


def test_settings_are_described_in_one_line():
    assert analysis.describe({"learning_rate": 1e-3, "baseline": "none"}) == "learning_rate=0.001 baseline=none"
    assert analysis.describe({"learning_rate": 0.00031746201, "n": 4}) == "learning_rate=0.0003175 n=4"
    assert analysis.describe({"discount": 0.99999}) == "discount=0.99999"


def test_figures_leave_no_global_state():
    """No pyplot: it would keep every figure, and ask for a display."""
    for file in pathlib.Path(analysis.__file__).parent.glob("*.py"):
        assert "import matplotlib.pyplot" not in file.read_text() and "pyplot as" not in file.read_text()

"""Settings drawn from ranges: where they lie, how evenly, and that the same seed draws the same."""

import numpy as np
import pytest

import pgjax
from pgjax.sweeps import search
from pgjax.sweeps.plan import plan
from pgjax.sweeps.search import Range, sample

TINY = {"hidden": (4,), "num_steps": 4, "num_envs": 2, "eval_episodes": 2}


@pytest.mark.parametrize("method", search.METHODS)
@pytest.mark.parametrize(
    ("kind", "low", "high", "middle"), [("uniform", -1.0, 3.0, 1.0), ("log", 1e-4, 1e-2, 1e-3), ("int", 4, 7, None)]
)
def test_values_fill_their_range(method, kind, low, high, middle):
    drawn = np.array([point["x"] for point in sample({"x": Range(kind, low, high)}, 1024, method)])
    assert drawn.min() >= low and drawn.max() <= high
    if kind == "int":
        counts = np.bincount(drawn)[4:]
        assert counts.shape == (4,) and abs(counts - 256).max() < 5 * np.sqrt(256 * 3 / 4)
    else:
        assert abs((drawn < middle).mean() - 0.5) < 5 * 0.5 / 32
    assert len(set(drawn)) == (4 if kind == "int" else 1024)


def test_a_sobol_sample_is_a_net():
    """Of 64 points in two dimensions exactly one lies in each of the 64 boxes of every shape 2^-i x 2^-(6-i)."""
    ranges = {"x": Range("uniform", 0.0, 1.0), "y": Range("uniform", 0.0, 1.0)}
    points = np.array([[p["x"], p["y"]] for p in sample(ranges, 64, seed=3)])
    for i in range(7):
        boxes = np.floor(points * [2**i, 2 ** (6 - i)]).astype(int)
        assert len(set(map(tuple, boxes))) == 64
    random = np.array([[p["x"], p["y"]] for p in sample(ranges, 64, "random", seed=3)])
    assert len(set(map(tuple, np.floor(random * 8).astype(int)))) < 60


@pytest.mark.parametrize("method", search.METHODS)
def test_the_seed_decides(method):
    ranges = {"x": Range("uniform", 0.0, 1.0), "y": Range("log", 1.0, 9.0)}
    assert sample(ranges, 9, method, 4) == sample(ranges, 9, method, 4) != sample(ranges, 9, method, 5)
    assert len(sample(ranges, 9, method)) == 9


def test_each_point_is_tried_with_every_combination_of_the_lists():
    points = sample({"x": Range("uniform", 0.0, 1.0), "n": [1, 2], "m": ["a", "b"], "k": 7}, 3)
    assert len(points) == 12 and all(p["k"] == 7 for p in points)
    assert len({p["x"] for p in points}) == 3
    assert {(p["n"], p["m"]) for p in points[:4]} == {(1, "a"), (1, "b"), (2, "a"), (2, "b")}
    assert len({p["x"] for p in points[:4]}) == 1


def test_without_a_range_there_is_a_grid():
    settings = {"n": [1, 2]}
    assert sample(settings, None) is settings


@pytest.mark.parametrize(
    ("settings", "samples", "method", "message"),
    [
        ({"x": 1.0}, 4, "sobol", "samples=4 needs a range"),
        ({"x": Range("log", 1e-3, 1e-2)}, None, "sobol", "x is a range; say how many"),
        ({"x": Range("log", 1e-3, 1e-2)}, 0, "sobol", "samples must be 1 or more, got 0"),
        ({"x": Range("log", 1e-3, 1e-2)}, 4, "grid", "search must be one of sobol, random; got 'grid'"),
        ({"x": Range("log", 0.0, 1e-2)}, 4, "sobol", "x: a log range needs ends above 0, got 0"),
        ({"x": Range("uniform", 2.0, 1.0)}, 4, "sobol", "x: a range needs finite ends, the first below the second"),
        ({"x": Range("uniform", 0.0, float("inf"))}, 4, "sobol", "x: a range needs finite ends"),
        ({"x": Range("int", 0.5, 3)}, 4, "sobol", "x: an int range needs whole ends"),
        ({"x": Range("normal", 0.0, 1.0)}, 4, "sobol", "x: a range is uniform, log or int, got 'normal'"),
    ],
)
def test_mistakes(settings, samples, method, message):
    with pytest.raises(ValueError, match=message):
        sample(settings, samples, method)


@pytest.mark.parametrize(
    ("text", "value"),
    [("log:1e-4:1e-2", Range("log", 1e-4, 1e-2)), ("int:4:64", Range("int", 4.0, 64.0)), ("0.5", "0.5"), ([1], [1])],
)
def test_what_is_typed(text, value):
    assert search.parse("x", text) == value


@pytest.mark.parametrize("text", ["log:1e-4", "log:a:b", "lgo:1:2", "log:1:2:3", "uniform::1"])
def test_what_is_mistyped(text):
    with pytest.raises(ValueError, match="x must be log:LOW:HIGH, uniform:LOW:HIGH or int:LOW:HIGH, got"):
        search.parse("x", text)


class TestListOfSettings:
    def test_floats_share_a_group_and_the_rest_makes_groups(self):
        points = [{"learning_rate": x, "num_envs": n, **{k: v for k, v in TINY.items() if k != "num_envs"}}
                  for x, n in [(1e-3, 2), (2e-3, 4), (3e-3, 2)]]  # fmt: skip
        made = plan("a2c", "PolicyProbe-pgjax", settings=points)
        assert made.axes == {"setting": [0, 1, 2]}
        assert [group.settings for group in made.groups] == [[{"setting": 0}, {"setting": 2}], [{"setting": 1}]]
        assert [g.config.num_envs for g in made.groups] == [2, 4] and made.groups[0].config.hidden == (4,)
        rates = [float(h.optimizer["learning_rate"]) for h in made.groups[0].hypers]
        assert rates == [pytest.approx(1e-3), pytest.approx(3e-3)]
        assert made.points == [{"learning_rate": x, "num_envs": n} for x, n in [(1e-3, 2), (2e-3, 4), (3e-3, 2)]]

    def test_the_dataset_knows_what_each_setting_was(self, tmp_path):
        settings = sample({"learning_rate": Range("log", 1e-3, 1e-1), **TINY}, 3)
        result = pgjax.run(
            "a2c", "PolicyProbe-pgjax", seeds=2, updates=2, settings=settings, out=tmp_path / "run", progress=False
        )
        assert result.metrics.loss.dims == ("setting", "seed", "update")
        rates = [point["learning_rate"] for point in settings]
        np.testing.assert_array_equal(result.metrics.learning_rate, rates)
        assert [row["setting"] for row in result.summary["settings"]] == [{"learning_rate": x} for x in rates]
        run = pgjax.load(tmp_path / "run")
        assert run.plan.points == result.plan.points
        assert float(run.hypers(setting=1).optimizer["learning_rate"]) == pytest.approx(rates[1])
        assert result.sel(setting=1, seed=0).loss.shape == (2,)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ([], "settings: the list of settings is empty"),
            ([{"learning_rate": 1e-3}, {"num_envs": 2}], "must give the same names in each"),
            ([{"learning_rat": 1e-3}], "no hyperparameter 'learning_rat'; did you mean 'learning_rate'"),
            ([{"learning_rate": "fast"}], "optimizer.learning_rate must be a number"),
        ],
    )
    def test_mistakes(self, settings, message):
        with pytest.raises(ValueError, match=message):
            plan("a2c", "PolicyProbe-pgjax", settings=settings)

    def test_something_else_is_a_type_error(self):
        with pytest.raises(TypeError, match="settings must be a dict .* or a list"):
            plan("a2c", "PolicyProbe-pgjax", settings=[1])

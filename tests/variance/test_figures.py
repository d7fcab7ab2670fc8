"""Figures of one tiny comparison, and of numbers made by hand that are hard to draw."""

import copy
import math
import types

import jax
import matplotlib.figure
import matplotlib.image
import numpy as np
import pytest
import xarray

from pgjax import envs, policies, variance
from pgjax.variance.findings import drawing, figures

ROWS = {f"gae {x}": variance.ScoreFunction(returns="gae", lambda_=x) for x in (0.0, 0.5, 1.0)}
CHOSEN = {**ROWS, "to_go": "to_go", "batch_std": "batch_std", "natural": "natural"}


@pytest.fixture(scope="module")
def report():
    env = envs.make("TabularMDP-pgjax")
    policy = policies.make(env)
    keys = jax.random.split(jax.random.key(0))
    params = {"preference": jax.random.normal(keys[0], (5, 3)), "value": jax.random.normal(keys[1], (5,))}
    found = variance.compare(CHOSEN, env, policy, params, discount=0.9, episodes=256, batch=(1, 4, 16), states=64)
    for i, row in enumerate(found.summary["estimators"].values()):
        row["seconds_per_episode"] = number(1e-5 * (i + 1), 1e-7)
    return found


@pytest.fixture
def drawn(monkeypatch):
    """Every figure, as it is written."""
    kept, save = [], matplotlib.figure.Figure.savefig

    def keep(figure, *args, **kwargs):
        kept.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", keep)
    return kept


def number(value, se=0.1):
    return {"value": value, "se": se}


def made(names, batch=(1, 4, 16), layers=("a", "b"), seed=0):
    """A report of made-up numbers, none of them odd yet."""
    g = np.random.default_rng(seed)
    rows = {}
    for name in names:
        curve = [number(x) for x in np.sort(g.uniform(0, 1, len(batch)))]
        rows[name] = {
            "bias": number(g.lognormal(), 0.01),
            "trace": number(g.lognormal(2)),
            "snr": number(g.lognormal(-2), 0.01),
            "mse": [number(2 / n, 0.01) for n in batch],
            "cosine": curve,
            "seconds_per_episode": number(g.lognormal(-9), 1e-7),
            "decomposition": {t: number(g.lognormal()) for t in ("trajectory", "action", "state", "total")},
        }
    facts = {"episodes": 128, "discount": 0.9, "reference_episodes": 512, "batch": list(batch)}
    summary = {**facts, "gradient_norm": number(1.0), "estimators": rows}
    size, text = len(names), np.array(list(names), object)
    data = {
        "truth": ("parameter", np.array([1.0, 0.0])),
        "target": (("estimator", "parameter"), np.tile([1.0, 0.0], (size, 1))),
        "layer_variance": (("estimator", "layer"), g.lognormal(size=(size, len(layers)))),
        "pairwise_cosine": (("estimator", "other", "batch"), g.uniform(0, 1, (size, size, len(batch)))),
    }
    coords = {"estimator": text, "other": text, "batch": list(batch), "layer": np.array(layers, object)}
    return types.SimpleNamespace(summary=summary, data=xarray.Dataset(data, coords))


def is_a_picture(path):
    pixels = (matplotlib.image.imread(path)[..., :3] * 255).astype(int)
    assert min(pixels.shape[:2]) > 300 and max(pixels.shape[:2]) < 8000
    return len(np.unique(pixels @ [1, 256, 65536])) > 50 and pixels.std() > 5


def lines(axes, style=None):
    """The lines that have points, apart from those for the legend."""
    return [x for x in axes.get_lines() if len(x.get_xdata()) and (style is None or x.get_linestyle() == style)]


@pytest.mark.slow
def test_every_figure_of_a_report_is_written(report, tmp_path):
    paths = figures.write_all(report, tmp_path / "new" / "folder", ROWS, title="TabularMDP")
    names = "bias_against_variance cosine_against_batch error_against_batch decomposition pareto layers pairwise"
    assert {p.stem for p in paths} == {*names.split(), "lambda_sweep"}
    assert all(is_a_picture(p) for p in paths)


def test_figures_without_data_are_left_out(report, tmp_path):
    bare = copy.deepcopy(report)
    for row in bare.summary["estimators"].values():
        row.pop("decomposition", None)
        row.pop("seconds_per_episode")
    two = dict(list(ROWS.items())[:2])
    left_out = {"decomposition", "pareto", "lambda_sweep"}
    assert not left_out & {p.stem for p in figures.write_all(bare, tmp_path, two)}
    for draw, words in ((figures.decomposition, "states=64"), (figures.pareto, "timing=True")):
        with pytest.raises(ValueError, match=words):
            draw(bare, tmp_path / "x.png")
    with pytest.raises(ValueError, match="lambda_ alone"):
        figures.lambda_sweep(bare, two, tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_along_training_and_its_decomposition_take_reports_in_any_order(report, tmp_path, drawn):
    shorter = copy.deepcopy(report)
    del shorter.summary["estimators"]["natural"]
    reports = {100: report, 0: shorter}
    figures.along_training(reports, tmp_path / "along.png")
    figures.decomposition(reports, tmp_path / "parts.png")
    assert is_a_picture(tmp_path / "along.png") and is_a_picture(tmp_path / "parts.png")
    trace = [r.summary["estimators"]["gae 0.0"]["trace"]["value"] for r in (shorter, report)]
    line = lines(drawn[0].axes[0], "-")[0]
    np.testing.assert_array_equal(line.get_xdata(), [0, 100])
    np.testing.assert_allclose(line.get_ydata(), trace)
    assert np.isnan(lines(drawn[0].axes[0], "-")[-1].get_ydata()[0])
    for nothing in ({}, report):
        with pytest.raises(ValueError, match="by update"):
            figures.along_training(nothing, tmp_path / "x.png")


def test_points_are_the_numbers_of_the_report(report, tmp_path, drawn):
    figures.error_against_batch(report, tmp_path / "x.png")
    row = report.summary["estimators"]["to_go"]
    wanted = np.sqrt([p["value"] for p in row["mse"]]) / report.summary["gradient_norm"]["value"]
    assert any(
        np.array_equal(np.isfinite(x.get_ydata()), [True] * 3) and np.allclose(x.get_ydata(), wanted, equal_nan=True)
        for x in lines(drawn[0].axes[0], "-")
    )
    figures.pareto(report, tmp_path / "x.png")
    front = next(x for x in drawn[1].axes[0].get_lines() if x.get_label() == "Pareto front")
    points = {(r["seconds_per_episode"]["value"], r["trace"]["value"]) for r in report.summary["estimators"].values()}
    best = [p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)]
    np.testing.assert_allclose(np.transpose(front.get_data()), sorted(best))


def test_a_natural_gradient_is_measured_by_its_own_norm(report, tmp_path, drawn):
    figures.error_against_batch(report, tmp_path / "x.png")
    own = np.linalg.norm(report.data["target"].sel(estimator="natural").values)
    wanted = math.sqrt(report.summary["estimators"]["natural"]["mse"][0]["value"]) / own
    assert any(np.isclose(x.get_ydata()[0], wanted) for x in lines(drawn[0].axes[0], "-"))


def test_a_bias_within_its_error_is_an_open_marker_at_the_upper_end(tmp_path, drawn):
    found = made("ab")
    # bias^2 was 0.01 with an error of 0.25, and 4 with 0.04.
    found.summary["estimators"]["a"]["bias"] = number(0.1, 0.5)
    found.summary["estimators"]["b"]["bias"] = number(2.0, 0.01)
    figures.bias_against_variance(found, tmp_path / "x.png")
    shown = [x for x in lines(drawn[0].axes[0]) if np.isfinite(x.get_ydata(orig=False)).all()]
    seen = {x.get_markerfacecolor(): x.get_ydata()[0] for x in shown}
    assert seen["white"] == pytest.approx(math.sqrt(0.01 + 2 * 0.25))
    assert seen["C1"] == pytest.approx(2.0)


def test_the_least_sum_of_a_sweep_is_ringed(report, tmp_path, drawn):
    figures.lambda_sweep(report, ROWS, tmp_path / "x.png")
    rows = [report.summary["estimators"][name] for name in ROWS]
    total = [r["bias"]["value"] ** 2 + r["trace"]["value"] / 64 for r in rows]
    ring = next(x for x in drawn[0].axes[0].get_lines() if x.get_markersize() == 11)
    assert ring.get_xdata()[0] == [0.0, 0.5, 1.0][int(np.argmin(total))]


def odd(kind):
    names = [f"estimator_{i}" for i in range(35)] if kind == "many" else ["one"] if kind == "one" else list("abcd")
    found = made(names)
    rows = list(found.summary["estimators"].values())
    if kind in ("infinite", "missing"):
        bad = math.inf if kind == "infinite" else math.nan
        for quantity in ("bias", "trace", "snr"):
            rows[0][quantity] = number(bad, math.nan)
        rows[1]["mse"][0] = rows[1]["cosine"][0] = number(bad, bad)
        rows[1]["decomposition"]["state"] = rows[1]["decomposition"]["total"] = number(bad, bad)
        found.data["layer_variance"][0, 0] = bad
        found.data["pairwise_cosine"][0, 1] = math.nan
    if kind == "zero":
        for quantity in ("bias", "trace", "snr"):
            rows[0][quantity] = {"value": 0.0, "exact": True}
        rows[0]["mse"] = [{"value": 0.0, "exact": True}] * 3
        rows[1]["mse"][2] = number(-0.5, 0.1)
        rows[1]["decomposition"]["state"] = number(-0.5, 0.1)
        rows[2]["cosine"][2] = number(1.02, 0.1)
        rows[3]["snr"] = number(-0.1, 0.1)
        rows[3]["cosine"][0] = number(-0.3, 0.1)
        found.data["layer_variance"][0] = 0.0
    if kind == "wide":
        rows[0]["trace"], rows[1]["trace"] = number(1e-12, 1e-13), number(1e18, 1e19)
    if kind == "same":
        found.data["layer_variance"][:] = 1.0
        for row in rows:
            row |= {"trace": number(1.0, 0.0), "bias": number(1.0, 0.0), "seconds_per_episode": number(1.0, 0.0)}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["one", "many", "infinite", "missing", "zero", "wide", "same"])
def test_numbers_that_are_hard_to_draw_are_drawn_without_a_warning(kind, tmp_path):
    found = odd(kind)
    paths = figures.write_all(found, tmp_path)
    names = "bias_against_variance cosine_against_batch error_against_batch decomposition pareto layers pairwise"
    assert {p.stem for p in paths} == set(names.split()) - ({"pairwise"} if kind == "one" else set())
    figures.along_training({0: found, 5: found}, tmp_path / "along.png")
    assert all(is_a_picture(p) for p in [*paths, tmp_path / "along.png"])


def test_an_estimator_without_a_number_is_named_in_the_legend(tmp_path, drawn):
    figures.bias_against_variance(odd("infinite"), tmp_path / "x.png")
    texts = [t.get_text() for t in drawn[0].axes[0].get_legend().get_texts()]
    assert "a (no number)" in texts and "b" in texts


def test_thirty_five_estimators_have_a_style_each(tmp_path, drawn):
    figures.cosine_against_batch(odd("many"), tmp_path / "x.png")
    legend = drawn[0].axes[0].get_legend()
    styles = {(h.get_color(), h.get_marker()) for h in legend.legend_handles}
    assert len(styles) == 35
    whole, box = drawn[0].bbox, legend.get_window_extent()
    assert box.x0 > drawn[0].axes[0].bbox.x1 and box.x1 <= whole.x1 and box.y0 >= whole.y0


def test_names_are_not_read_as_mathematics(tmp_path, drawn):
    figures.cosine_against_batch(made(["_private", "a$b$c"]), tmp_path / "x.png", title="title")
    assert {t.get_text() for t in drawn[0].axes[0].get_legend().get_texts()} == {"private", r"a\$b\$c"}


DRAWINGS = [getattr(figures, name) for name in "bias_against_variance cosine_against_batch pareto layers".split()]


@pytest.mark.parametrize("draw", [*DRAWINGS, figures.error_against_batch, figures.pairwise])
def test_what_cannot_be_drawn_is_refused_in_one_line(draw, tmp_path):
    found = made("ab")
    for row in found.summary["estimators"].values():
        row["trace"] = number(math.inf)
        row["cosine"] = row["mse"] = [number(math.nan)] * 3
    found.data["layer_variance"][:] = found.data["pairwise_cosine"][:] = math.nan
    with pytest.raises(ValueError) as refused:
        draw(found, tmp_path / "x.png")
    assert "\n" not in str(refused.value) and str(refused.value)
    assert figures.write_all(found, tmp_path) == [tmp_path / "decomposition.png"]


def test_a_gradient_of_norm_0_is_no_unit(tmp_path):
    found = made("ab")
    found.summary["gradient_norm"] = number(0.0)
    with pytest.raises(ValueError, match="measured as 0"):
        figures.error_against_batch(found, tmp_path / "x.png")


ALIKE = {
    "equal": (1.0, 0.0),
    "large and equal": (1e30, 0.0),
    "zero": (0.0, 0.0),
    "tiny": (1e-300, 0.0),
    "missing": (math.nan, math.nan),
    "infinite": (math.inf, math.nan),
    "of infinite error": (1.0, math.inf),
    "negative": (-1.0, 0.0),
}
CASES = [(kind, list(ROWS)) for kind in ALIKE] + [
    ("equal", []),
    ("large and equal", ["gae 0.5"]),
    ("equal", ["gae 0.5"]),
]
EVERY = {draw.__name__: draw for draw in (*DRAWINGS, figures.error_against_batch, figures.pairwise)}
EVERY["decomposition"] = figures.decomposition
EVERY["lambda_sweep"] = lambda report, path: figures.lambda_sweep(report, ROWS, path)
EVERY["along_training"] = lambda report, path: figures.along_training({0: report, 1: report}, path)
EVERY["along_training at one point"] = lambda report, path: figures.along_training({7: report}, path)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "names"), CASES, ids=[f"{kind} x {len(names)}" for kind, names in CASES])
@pytest.mark.parametrize("name", EVERY)
def test_every_figure_is_drawn_or_refused_whatever_the_numbers(name, kind, names, tmp_path, monkeypatch):
    """Without a warning, which pytest makes an error."""
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda *args, dpi: save(*args, dpi=40))
    found = made(names)
    value, se = ALIKE[kind]
    for row in found.summary["estimators"].values():
        for quantity in ("bias", "trace", "snr", "seconds_per_episode"):
            row[quantity] = number(value, se)
        row["mse"] = [number(value, se)] * 3
        row["cosine"] = [number(min(value, 1.0), se)] * 3
        row["decomposition"] = {term: number(value, se) for term in row["decomposition"]}
    found.data["layer_variance"][:] = found.data["pairwise_cosine"][:] = value
    try:
        EVERY[name](found, tmp_path / "x.png")
    except drawing.NothingToDrawError as refused:
        assert "\n" not in str(refused)
        assert not (kind == "equal" and names == list(ROWS))
    else:
        assert (tmp_path / "x.png").stat().st_size > 1000

"""The page of run folders: what it says, that it needs nothing from elsewhere, and bad input in one line."""

import base64
import html.parser
import json
import pathlib
import re
import shlex
import shutil

import numpy as np
import pytest
import xarray

import pgjax
from pgjax import analysis, report, statistics
from pgjax.runs.run import Run

VOID = {"meta", "img", "br"}


class Page(html.parser.HTMLParser):
    """Text, images and what a browser would fetch; raises where tags don't match."""

    def __init__(self, source):
        super().__init__()
        self.open, self.words, self.images, self.fetched, self.tags = [], [], [], [], set()
        self.cells, self.rows = [], []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.fetched += [v for k, v in attrs if k in ("src", "href", "srcset", "data") and not v.startswith("data:")]
        if tag == "img":
            self.images.append(dict(attrs))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.words.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    @property
    def text(self):
        return " ".join(self.words)


def config(**changes):
    """As the driver writes it."""
    return {
        "algorithm": "ppo",
        "env": "CartPole-v1",
        "seeds": [0, 1, 2, 3],
        "settings": {"learning_rate": [1e-3, 3e-4]},
        "fixed": {"estimator.clip_eps": 0.2},
        "command": ["pgjax", "train", "ppo", "CartPole-v1", "--set", "learning_rate=1e-3,3e-4"],
        "groups": [{"updates": 5}],
        "versions": {"python": "3.11.7", "jax": "0.10.2"},
        "device": {"platform": "cpu", "kind": "cpu", "count": 1},
        **changes,
    }


def summary(**changes):
    times = {"compile_seconds": 1.5, "train_seconds": 2.25, "evaluate_seconds": 0.5}
    counts = {"env_steps": 4000.0, "env_steps_per_second": 1777.8, "eval_episodes": 3}
    return {"interrupted": False, "settings": [], "failed_lanes": 0, **counts, **times, **changes}


def metrics(axes, level, seeds=4, first=0, finals=True, stopped=None, failed=(), updates=5):
    """A dataset whose settings (over the named axes) have these levels of final return."""
    g = np.random.default_rng(len(level))
    shape = tuple(len(v) for v in axes.values())
    dims = (*axes, "seed")
    returns = np.reshape(level, (*shape, 1, 1)) + g.normal(size=(*shape, seeds, 3))
    curves = returns.mean(axis=-1, keepdims=True) * np.linspace(0.2, 1, updates)
    finite = np.ones((*shape, seeds), bool)
    for lane in failed:
        finite[lane], curves[lane], returns[lane] = False, np.nan, np.nan
    data = {"episode_return": ((*dims, "update"), curves), "finite": (dims, finite)}
    if stopped is not None:
        halted = np.zeros((*shape, seeds), bool)
        halted[stopped], curves[stopped], returns[stopped] = True, np.nan, np.nan
        data["stopped"] = (dims, halted)
    if finals:
        data |= {f"final_return_{kind}": ((*dims, "episode"), returns) for kind in ("stochastic", "greedy")}
    steps = ("update", 100.0 * np.arange(1, updates + 1))
    coords = {"seed": range(first, first + seeds), "update": range(1, updates + 1), "env_steps": steps}
    return xarray.Dataset(data, {**axes, **coords})


def folder(path, dataset=None, **parts):
    path.mkdir()
    dataset = metrics({"learning_rate": [1e-3, 3e-4]}, [10.0, 20.0]) if dataset is None else dataset
    (path / "config.json").write_text(json.dumps(parts.get("config", config())))
    (path / "summary.json").write_text(json.dumps(parts.get("summary", summary())))
    dataset.to_zarr(path / "metrics.zarr", zarr_format=3, consolidated=False)
    return path


def written(paths, tmp_path):
    return Page(report.write(paths, tmp_path / "page.html").read_text(encoding="utf-8"))


def headings(page):
    return [image["alt"] for image in page.images]


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A run of two updates, as the driver writes it."""
    path = tmp_path_factory.mktemp("real") / "run"
    settings = {"learning_rate": [1e-3, 3e-4], "num_envs": 4, "num_steps": 16, "eval_episodes": 2}
    pgjax.run("ppo", "CartPole-v1", seeds=2, updates=2, settings=settings, out=path, progress=False)
    return path


def test_the_page_of_a_real_run(real, tmp_path):
    page = written(real, tmp_path)
    recorded = json.loads((real / "config.json").read_text())
    assert "pgjax.run('ppo', 'CartPole-v1', seeds=2, updates=2, settings={'learning_rate': [0.001, 0.0003]" in page.text
    assert f"jax {recorded['versions']['jax']}" in page.text and "4: 2 settings, 2 seeds" in page.text
    iqm = {row["setting"]["learning_rate"]: row["stochastic"]["iqm"] for row in _summary(real)["settings"]}
    best = max(iqm, key=iqm.get)
    (line,) = [row for row in page.rows if row[0] == "1"]
    assert line[2] == f"{best:g}" and float(line[3]) == pytest.approx(iqm[best], rel=0.01)
    assert headings(page) == [
        "Learning curves",
        "Settings by rank",
        "Performance profiles",
        "Sensitivity to each hyperparameter",
    ]


def _summary(path):
    return json.loads((path / "summary.json").read_text())


def test_the_page_holds_everything_it_shows(tmp_path):
    page = written([folder(tmp_path / "a"), folder(tmp_path / "b")], tmp_path)
    assert page.fetched == [] and page.tags.isdisjoint({"script", "link", "iframe", "base", "object"})
    source = (tmp_path / "page.html").read_text()
    style = re.search("<style>(.*?)</style>", source, re.DOTALL)[1]
    assert "@import" not in style and "url(" not in style and "prefers-color-scheme: dark" in style
    for image in page.images:
        kind, _, data = image["src"].partition("base64,")
        assert kind == "data:image/png;" and base64.b64decode(data, validate=True).startswith(b"\x89PNG")


def test_the_command_is_one_that_a_shell_reads_back(tmp_path):
    words = ["pgjax", "train", "ppo", "--env", "my file.py:a&b", "--set", "x=<1>"]
    page = written(folder(tmp_path / "a", config=config(command=words)), tmp_path)
    (typed,) = [text for text in page.words if text.startswith("pgjax train")]
    assert shlex.split(typed) == words


@pytest.mark.parametrize(
    "changes, said",
    [
        ({}, "seeds=4, updates=5, settings={'learning_rate': [0.001, 0.0003]})"),
        ({"seeds": [3, 4, 5], "settings": {}}, "pgjax.run('ppo', 'CartPole-v1', seeds=3, seed=3, updates=5)"),
        ({"seeds": [1, 7]}, "seeds=[1, 7], updates=5"),
        ({"groups": [{"updates": 5}, {"updates": 7}]}, "seeds=4, settings="),
        ({"loss": "mine:kl (mine.py)"}, "loss='mine:kl (mine.py)')"),
    ],
)
def test_a_call_from_python_is_told_as_one(tmp_path, changes, said):
    run = Run.open(folder(tmp_path / "a", config=config(command=None, **changes)))
    assert said in run.call


def test_text_is_escaped(tmp_path):
    name = "<script>alert('x')</script>&"
    axes = {"<b>loss": np.array(["<i>a", "b&amp;"], object)}
    path = folder(
        tmp_path / "a", metrics(axes, [1.0, 2.0], failed=[(0, 1)]), config=config(algorithm=name, env="<env>")
    )
    page = written(path, tmp_path)
    assert page.tags.isdisjoint({"script", "b", "i", "env"})
    assert f"{name} on <env>" in page.text and "<b>loss=<i>a" in page.text and "b&amp;" in page.text


def test_final_returns_are_sorted_by_rank_with_their_intervals(tmp_path):
    axes = {"a": [1, 2, 3], "b": [0.1, 0.2]}
    dataset = metrics(axes, [5.0, 5.5, 30.0, 1.0, 6.0, 20.0])
    page = written(folder(tmp_path / "a", dataset), tmp_path)
    head = next(i for i, row in enumerate(page.rows) if row[:3] == ["rank", "95 %", "a"])
    lines = page.rows[head + 1 : head + 7]
    rows = analysis.rows(dataset)
    rank, low, high = statistics.ranking(analysis.scores(rows)[1])
    for line, h in zip(lines, np.argsort(rank), strict=True):
        assert line[0] == f"{rank[h]:g}" and line[1] == f"{low[h]:g} to {high[h]:g}"
        assert line[2:4] == [str(rows[h].values["a"]), str(rows[h].values["b"])]
        ends = statistics.bootstrap(rows[h].finals)
        found = [float(line[4]), *map(float, line[5].split(" to "))]
        np.testing.assert_allclose(found, [statistics.iqm(rows[h].finals), *ends], atol=0.051)
    seeds, design = statistics.seeds_needed(*(analysis.scores(rows)[1][:, h] for h in analysis.ranked(rows)[:2]))
    assert f"each needs about {seeds:,.0f} seeds" in page.text and f"({design})" in page.text
    assert "Pairs of hyperparameters" in headings(page) and "Parallel coordinates" in headings(page)


def test_of_many_settings_the_rest_is_folded_away_and_counted(tmp_path):
    drawn = {"learning_rate": ("setting", np.geomspace(1e-5, 1e-2, 30)), "clip_eps": ("setting", np.linspace(0, 1, 30))}
    dataset = metrics({"setting": range(30)}, np.arange(30.0)).assign_coords(drawn)
    page = written(folder(tmp_path / "a", dataset), tmp_path)
    assert "the other 10 settings" in page.text
    lines = [row for row in page.rows if len(row) > 6 and row[0] not in ("rank", "-")]
    assert [float(line[0]) for line in lines] == sorted(float(line[0]) for line in lines) and len(lines) == 30
    assert lines[0][2:4] == ["1", "0.01"]  # clip_eps and learning_rate of the last, not its number


def test_failed_and_stopped_lanes_are_named(tmp_path):
    dataset = metrics({"a": [1, 2, 3]}, [1.0, 2.0, 3.0], failed=[(0, 1), (0, 3)], stopped=2)
    page = written(folder(tmp_path / "a", dataset), tmp_path)
    assert "2 lanes failed" in page.text and "4 lanes stopped early" in page.text
    assert ["a=1", "1, 3"] in page.rows and ["a=3", "all"] in page.rows
    whole = written(folder(tmp_path / "b"), tmp_path)
    assert "No lane failed." in whole.text and "stopped early" not in whole.text


def test_lanes_whose_evaluation_overflows_are_named_and_the_table_says_over_how_many_seeds_it_is(tmp_path):
    dataset = metrics({"a": [0.123451, 0.123452]}, [1.0, 2.0])
    dataset.final_return_stochastic[0, 2, 1] = np.inf
    page = written(folder(tmp_path / "a", dataset), tmp_path)
    assert "1 lane without a finite score" in page.text and ["a=0.123451", "2"] in page.rows
    head = next(row for row in page.rows if row[:2] == ["rank", "95 %"])
    lines = [dict(zip(head, row, strict=True)) for row in page.rows if len(row) == len(head) and row != head]
    assert {(line["a"], line["seeds"], line["no finite score"]) for line in lines} == {
        ("0.123451", "3 of 4", "1"),
        ("0.123452", "4", "0"),
    }
    assert "As few as 3 seeds: 95 % intervals are as wide as so few make them" in page.text


def test_one_seed_has_no_interval_on_the_page(tmp_path):
    levels = {"x": [1.0, 2.0], "y": [1.0, 3.0]}
    paths = [folder(tmp_path / name, metrics({"a": [1, 2]}, found, seeds=1)) for name, found in levels.items()]
    page = written(paths, tmp_path)
    assert "One seed says nothing about other seeds: there are no intervals." in page.text
    lines = [row for row in page.rows if row and row[0] in ("1", "2")]
    assert len(lines) == 6 and all(row[1] == "-" for row in lines)
    assert not any(" to " in cell for row in lines for cell in row)
    (row,) = [row for row in page.rows if row[0] == "x" and len(row) == 3]
    assert row[2].endswith("(-)")


def test_the_page_of_odd_numbers_is_written_without_a_warning(tmp_path):
    dataset = metrics({"a": [1, 2, 3]}, [1.0, 2.0, 3.0])
    for name in ("final_return_stochastic", "episode_return"):
        dataset[name] = dataset[name].astype(np.float32)
        dataset[name].values[0], dataset[name].values[1], dataset[name].values[2] = np.inf, 3e38, 1e20
    page = written(folder(tmp_path / "a", dataset), tmp_path)
    assert len(page.images) == 4


def test_an_interrupted_run_is_shown_as_such(tmp_path):
    dataset = metrics({"a": [1, 2]}, [1.0, 2.0], finals=False)
    page = written(folder(tmp_path / "a", dataset, summary=summary(interrupted=True)), tmp_path)
    assert "Interrupted" in page.text and "2 of 2 settings have no final return" in page.text
    assert headings(page) == ["Learning curves"] and "Not drawn: no setting has a final return" in page.text
    assert "Interrupted" not in written(folder(tmp_path / "b"), tmp_path).text


def test_runs_are_compared_by_their_best_settings(tmp_path):
    one = metrics({"a": [1, 2]}, [10.0, 20.0])
    two = metrics({}, [20.5], first=2, updates=3)
    paths = [folder(tmp_path / "one", one), folder(tmp_path / "two", two, config=config(seeds=[2, 3, 4, 5]))]
    page = written(paths, tmp_path)
    x, y = one.sel(a=2).final_return_stochastic.mean("episode"), two.final_return_stochastic.mean("episode")
    wanted = "{:.2f} ({:.2f} to {:.2f})".format(*statistics.probability_of_improvement(x, y))
    assert ["one", "", wanted] in page.rows
    back = "{:.2f} ({:.2f} to {:.2f})".format(*statistics.probability_of_improvement(y, x))
    assert ["two", back, ""] in page.rows
    # Seeds 2 and 3 are common: those make the pairs.
    apart = np.full((2, 6), np.nan)
    apart[0, :4], apart[1, 2:] = x, y
    seeds, design = statistics.seeds_needed(*apart)
    said = "To tell the means of the best two apart (one a=2 and two)"
    if np.mean(y) > np.mean(x):
        said = "To tell the means of the best two apart (two and one a=2)"
    assert f"{said}, each needs about {seeds:,.0f} seeds" in page.text and f"({design})" in page.text
    assert headings(page)[:3] == [
        "Learning curves of the best settings",
        "Performance profiles of the best settings",
        "All settings of all runs",
    ]
    assert "The runs have different seeds" in page.text


@pytest.mark.parametrize("changes", [{"env": "Acrobot-v1"}, {"fixed": {"env.gravity": 3.0}}])
def test_runs_on_different_environments_are_not_compared(tmp_path, changes):
    page = written([folder(tmp_path / "a"), folder(tmp_path / "b", config=config(**changes))], tmp_path)
    assert "The runs are on different environments (a: CartPole-v1; b: " in page.text
    assert "Probability of improvement" not in page.text and headings(page).count("Learning curves") == 2


def test_a_run_without_final_returns_is_left_out_of_the_comparison_by_name(tmp_path):
    none = metrics({"a": [1, 2]}, [1.0, 2.0], finals=False)
    paths = [folder(tmp_path / "a"), folder(tmp_path / "b", none, summary=summary(interrupted=True))]
    page = written(paths, tmp_path)
    assert "Without final returns, so left out: b." in page.text and "there is nothing to compare" in page.text


def test_folders_of_one_name_are_told_apart_by_their_path(tmp_path):
    for name in "xy":
        (tmp_path / name).mkdir()
    paths = [folder(tmp_path / name / "run") for name in "xy"]
    page = written(paths, tmp_path)
    assert all([str(path)] == row[:1] for path, row in zip(paths, page.rows[4:6], strict=True))


def torn(path, file, content):
    made = folder(path)
    (made / file).write_text(content)
    return made


def without(path, file):
    made = folder(path)
    target = made / file
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    return made


def broken(path):
    made = folder(path)
    (made / "metrics.zarr" / "zarr.json").write_text("{")
    return made


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda p: [], "folders: none was given; give one run folder or more"),
        (lambda p: [folder(p / "runn").parent / "run"], "path: no folder '.*/run'; did you mean '.*/runn'"),
        (lambda p: [p], "holds no config.json, only nothing; give a run folder"),
        (
            lambda p: [torn(p / "a", "config.json", '{"algo')],
            "a/config.json' can't be read: .*; it is not as pgjax wrote it",
        ),
        (lambda p: [torn(p / "a", "summary.json", "")], "a/summary.json' can't be read"),
        (lambda p: [torn(p / "a", "summary.json", "[]")], "a/summary.json' holds no JSON object"),
        (lambda p: [torn(p / "a", "config.json", "{}")], "a/config.json' has no 'algorithm'"),
        (
            lambda p: [without(p / "a", "metrics.zarr")],
            "holds no metrics.zarr, only config.json, summary.json; the run",
        ),
        (
            lambda p: [without(p / "a", "summary.json")],
            "holds no summary.json, only config.json, metrics.zarr; the run",
        ),
        (lambda p: [broken(p / "a")], "a/metrics.zarr' can't be read: .*; pgjax resume"),
        (lambda p: [folder(p / "a"), p / "a" / ".." / "a"], "folders: '.*a' was given twice; give each run once"),
        (lambda p: [folder(p / "a", xarray.Dataset({"x": ("t", [1.0])}))], "holds no metrics of lanes"),
    ],
)
def test_bad_folders_are_told_in_one_line(tmp_path, make, said):
    place = tmp_path / "in"
    place.mkdir()
    with pytest.raises(ValueError, match=said) as caught:
        report.write(make(place), tmp_path / "page.html")
    assert "\n" not in str(caught.value) and not (tmp_path / "page.html").exists()


def test_an_out_that_cannot_be_written_is_told_in_one_line(tmp_path):
    path = folder(tmp_path / "a")
    with pytest.raises(
        ValueError, match="out: '.*' is a folder; give the name of the HTML file, such as .*report.html"
    ):
        report.write(path, tmp_path)
    with pytest.raises(ValueError, match="out: can't write .*; choose another place"):
        report.write(path, path / "config.json" / "page.html")


def test_a_page_is_written_over_and_its_folders_are_made(tmp_path):
    path, out = folder(tmp_path / "a"), tmp_path / "new" / "page.html"
    assert report.write(str(path), out) == out == pathlib.Path(out)
    first = out.read_text()
    report.write(path, out)
    assert out.read_text() == first  # nothing on it depends on the hour

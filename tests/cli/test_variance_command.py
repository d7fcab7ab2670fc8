"""`pgjax variance`: from the command line to a folder, and every mistake in one line."""

import io
import json

import numpy as np
import pytest
import xarray

import pgjax
from pgjax.cli import main
from pgjax.runs.load import load

SMALL = "--episodes 256 --batch 1,4,16 --pilot 16 --no-timing".split()


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "r"
    settings = {"learning_rate": [1e-2, 1e-3], "discount": 0.9}
    options = dict(seeds=2, updates=4, snapshots=2, progress=False, out=path, settings=settings)
    pgjax.run("actor_critic", "TabularMDP-pgjax", **options)
    return path


def test_a_folder_with_figures_numbers_and_data(tmp_path, capsys):
    out = tmp_path / "v"
    words = ["variance", "TabularMDP-pgjax", "--estimators", "to_go,gae", "--states", "64", "--out", str(out)]
    assert main.main([*words, *SMALL]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["estimators"]) == {"to_go", "gae"} and summary["gradient_norm"]["exact"]
    with xarray.open_zarr(out / "variance.zarr", consolidated=False) as data:
        assert list(data["estimator"].values) == ["to_go", "gae"] and data["mse"].dims == ("estimator", "batch")
    figures = {"bias_against_variance", "cosine_against_batch", "error_against_batch", "decomposition", "layers"}
    assert figures <= {p.stem for p in out.glob("*.png")}
    config = json.loads((out / "config.json").read_text())
    assert config["command"][:3] == ["pgjax", "variance", "TabularMDP-pgjax"]
    assert "to_go" in capsys.readouterr().out


@pytest.mark.slow
def test_along_training(run_folder, tmp_path, capsys):
    out = tmp_path / "v"
    words = ["variance", "--params", str(run_folder), "--at", "all", "--lane", "seed=1", "learning_rate=0.001"]
    assert main.main([*words, "--estimators", "to_go", "--out", str(out), *SMALL]) == 0
    updates = load(run_folder).updates
    assert updates == [0, 2, 4]
    for update in updates:
        assert (out / f"update-{update:08d}" / "summary.json").is_file()
    assert (out / "along_training.png").is_file()
    config = json.loads((out / "config.json").read_text())
    assert config["lane"] == {"seed": 1, "learning_rate": 0.001} and config["points"] == updates
    found = json.loads((out / "update-00000000" / "summary.json").read_text())
    np.testing.assert_allclose(found["discount"], 0.9, rtol=1e-6)
    assert "after 2 updates" in capsys.readouterr().out


def test_off_policy(run_folder, tmp_path):
    out = tmp_path / "v"
    words = ["variance", "--params", str(run_folder), "--behaviour", "0", "--estimators", "is_decision,ppo_clip"]
    assert main.main([*words, "--out", str(out), *SMALL]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert not summary["on_policy"] and summary["kl"]["value"] > 0
    assert 0 < summary["effective_sample_share"]["value"] <= 1
    assert "clip_fraction" in summary["estimators"]["ppo_clip"]


@pytest.mark.slow
def test_each_point_sees_through_its_own_observation_moments(tmp_path, monkeypatch):
    from pgjax.cli import variance_policy
    from pgjax.cli.options_reading import Variance

    settings = {"normalize_obs": True, "scale_rewards": True, "num_envs": 2, "num_steps": 8, "num_minibatches": 1}
    path = tmp_path / "r"
    pgjax.run("ppo", "CartPole-v1", updates=4, snapshots=2, progress=False, out=path, settings=settings)
    subject = variance_policy.of(Variance(params=str(path), at="all"))
    run, obs = load(path), np.ones((1, 4), np.float32)
    for update, (policy, params) in subject.points.items():
        _, known, same = run.lane(seed=0, update=update)
        np.testing.assert_array_equal(policy.act(params, (), obs)[0].logits, known.act(same, (), obs)[0].logits)
    for words, message in (
        (["--behaviour", "0"], "--behaviour: the run normalises observations"),
        (["--estimators", "to_go,gae"], "leave out gae, which bootstrap from them"),
    ):
        complaint = _complaint(["variance", "--params", str(path), *words], monkeypatch)
        assert message in complaint


def _complaint(words, monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr("sys.stderr", said)
    assert main.main(words) == 2
    return said.getvalue()


@pytest.mark.slow
def test_a_grid_and_an_estimator_of_ones_own(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(
        "import jax\n\ndef nothing(key, params):\n    return jax.tree.map(lambda x: 0 * x, params)\n"
    )
    grid = ["--grid", "returns=full,to_go", "gamma_t=true,false"]
    assert main.main(["variance", "TabularMDP-pgjax", *grid, "--out", "g", *SMALL]) == 0
    assert "1 combinations mean nothing and are left out, such as 'full gamma_t=False'" in capsys.readouterr().err
    assert main.main(["variance", "TabularMDP-pgjax", "--estimators", "own.py:nothing", "--out", "o", *SMALL]) == 0
    row = json.loads((tmp_path / "o" / "summary.json").read_text())["estimators"]["nothing"]
    assert row["trace"]["value"] < 1e-12 and row["relative_bias"]["value"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "say which environment: ENV by name, or --params RUN"),
        ("CartPole-v2", "no environment 'CartPole-v2'; did you mean 'CartPole-v1'"),
        ("Pendulum-v1 --estimators to_go,all_action", "'all_action' sums over actions, and the action space is"),
        ("CartPole-v1 --estimators to_goo", "no estimator 'to_goo'; did you mean 'to_go'"),
        ("CartPole-v1 --estimators to_go,to_go", "'to_go' was given twice"),
        ("CartPole-v1 --estimators nowhere.py:f", "no file 'nowhere.py'"),
        ("CartPole-v1 --estimators to_go --grid returns=full", "give --estimators or --grid, not both"),
        ("CartPole-v1 --grid return=full", "the grid has no axis 'return'; did you mean 'returns'"),
        ("CartPole-v1 --grid returns", "--grid takes axis=value,value, got 'returns'"),
        ("CartPole-v1 --grid returns=ful", "grid axis returns has no choice 'ful'; did you mean 'full'"),
        ("CartPole-v1 --episodes many", "episodes must be a whole number, got 'many'"),
        ("CartPole-v1 --batch 1,3,7", "each size must divide the next"),
        ("CartPole-v1 --discount 2", "discount must lie in [0, 1], got 2.0"),
        ("CartPole-v1 --set gravit=3", "--set: unknown name 'gravit'; did you mean 'gravity'"),
        ("CartPole-v1 --set gravity", "--set takes name=value, got 'gravity'"),
        (
            "CartPole-v1 --set network=mpl",
            "network must be one of auto, mlp, simba, cnn, resnet, gru, lstm, mingru, lru, table, sigmoid, transformer"
            "; got 'mpl'",
        ),
        ("CartPole-v1 --at all", "give --params RUN with them"),
        ("--params nowhere", "nowhere"),
        ("--params @RUN@ --init", "either --params RUN or --init"),
        ("--params @RUN@ --set gravity=3", "a run brings its own environment"),
        ("CartPole-v1 --params @RUN@", "but the run in @RUN@ is on 'TabularMDP-pgjax'; leave ENV out"),
        ("--params @RUN@ --lane seed=7", "--lane: seed must be one of 0, 1; got 7"),
        ("--params @RUN@ --lane lr=7", "--lane: the run has no axis 'lr'"),
        ("--params @RUN@ --lane seed", "--lane takes name=value, got 'seed'"),
        ("--params @RUN@ --at 3", "3"),
        ("CartPole-v1 --behaviour 2", "give --params RUN with them"),
        ("--params @RUN@ --behaviour 0 --states 64", "leave --behaviour out"),
        ("--params @RUN@ --at never", "at must be a whole number, got 'never'"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(words, message, run_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    typed = words.replace("@RUN@", str(run_folder)).split()
    assert main.main(["variance", *typed]) == 2
    said = capsys.readouterr().err.strip()
    assert message.replace("@RUN@", str(run_folder)) in said and "\n" not in said
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine").write_text("precious")
    assert main.main(["variance", "TabularMDP-pgjax", "--out", str(tmp_path), *SMALL]) == 2
    assert "exists" in capsys.readouterr().err and (tmp_path / "mine").read_text() == "precious"

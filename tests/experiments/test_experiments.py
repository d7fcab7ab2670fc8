"""Each experiment runs at its smoke size."""

import pathlib
import runpy

import numpy as np
import pytest

EXPERIMENTS = pathlib.Path(__file__).parents[2] / "experiments"


@pytest.mark.slow
def test_my_loss(tmp_path):
    runs = runpy.run_path(EXPERIMENTS / "my_loss.py")["main"](["--smoke", "--out", str(tmp_path)])
    assert set(runs) == {"ppo", "kl_penalised"}
    assert (tmp_path / "kl_penalised" / "summary.json").is_file()


@pytest.mark.slow
def test_train_cartpole():
    final = runpy.run_path(EXPERIMENTS / "train_cartpole.py")["main"](smoke=True)
    assert final.shape == (2, 32) and np.isfinite(final).all()


def _smoke(name, tmp_path, figures):
    found = runpy.run_path(str(EXPERIMENTS / f"{name}.py"))["main"](["--smoke", "--out", str(tmp_path / name)])
    for figure in figures:
        assert (tmp_path / name / f"{figure}.png").stat().st_size > 10_000
    return found


@pytest.mark.slow
def test_gamma_t_points_away(tmp_path):
    found, climbs = _smoke("gamma_t", tmp_path, ["gamma_t"])
    random, blind = found["random MDP, table"], found["shop, blind"]
    np.testing.assert_allclose(random["cosine"], 0.999466993520, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(random["gradient"] - random["without"]), 0.5398770296, rtol=1e-6)
    np.testing.assert_allclose(blind["cosine"], -1, rtol=1e-9)
    # The sampled bias is the exact one.
    for one in found.values():
        value, se, exact = one["bias"]
        assert abs(value - exact) < 5 * se
    # Its steps lower both objectives, those with gamma^t raise both.
    assert (np.diff(climbs["without"], axis=0) < 0).all() and (np.diff(climbs["with"], axis=0) > 0).all()


@pytest.mark.slow
def test_ppo_bias(tmp_path):
    found = _smoke("ppo_bias", tmp_path, ["ppo_bias"])
    start, moved = found["gradient", 0.0], found["gradient", 1.0]
    for name in ("ratio", "ppo_clip", "ppo_kl", "is_decision", "is_trajectory"):
        np.testing.assert_allclose(start["rows"][name]["exact"], [1, 0], atol=1e-6)
    for name in ("is_decision", "is_trajectory"):
        np.testing.assert_allclose(moved["rows"][name]["exact"], [1, 0], atol=1e-6)
    # Off policy the ratio's expected gradient still points up, the clip's does not.
    assert moved["rows"]["ratio"]["exact"][0] > 0.99 and moved["rows"]["ppo_clip"]["cosine"][0] < 0.1
    np.testing.assert_allclose(moved["rows"]["ratio"]["cosine"][0], moved["rows"]["ratio"]["exact"][0], atol=0.1)


@pytest.mark.slow
def test_evolution_strategies(tmp_path):
    reports, biases = _smoke("evolution_strategies", tmp_path, ["evolution_strategies"])
    rows = reports["tabular"].summary["estimators"]
    narrow, wide = rows["sigma=0.1"], rows["sigma=1"]
    assert narrow["trace"]["value"] > 3 * wide["trace"]["value"] > 3 * rows["to_go"]["trace"]["value"]
    assert biases[1.0][0] > 10 * biases[0.1][0]
    assert abs(wide["bias"]["value"] - biases[1.0][0]) < 5 * wide["bias"]["se"]


@pytest.mark.slow
def test_my_estimator(tmp_path):
    report = _smoke("my_estimator", tmp_path, ["bias_against_variance", "cosine_against_batch"])
    rows = report.summary["estimators"]
    # Each episode of a mirrored pair is by itself as ever; what is bounded is biased.
    assert abs(rows["mirrored"]["bias_z"]) < 5 and rows["bounded by 5"]["bias_z"] > 3
    assert rows["bounded by 5"]["trace"]["value"] < rows["to_go"]["trace"]["value"]


@pytest.mark.slow
def test_estimator_variance(tmp_path):
    reports = _smoke("estimator_variance", tmp_path, ["ladder", "decomposition"])
    assert set(reports) == {"early", "middle", "late"}
    for report in reports.values():
        rows = report.summary["estimators"]
        assert rows["full"]["trace"]["value"] > rows["to_go"]["trace"]["value"] > rows["gae"]["trace"]["value"]
        assert abs(rows["to_go"]["bias_z"]) < 5 and rows["all_action"]["bias_z"] > 3


@pytest.mark.slow
def test_ppo_details(tmp_path):
    found = _smoke("ppo_details", tmp_path, ["ppo_details"])["Catch-bsuite"]
    for rows in found.values():
        assert rows["as shipped"]["difference"] == 0 and all(np.isfinite(row["mean"]) for row in rows.values())


@pytest.mark.slow
def test_masks(tmp_path):
    found = _smoke("masks", tmp_path, ["masks"])
    assert len(found) == 3 and all(bool(run.finite.all()) for run in found.values())


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["navix", "xminigrid", "jumanji", "pgx"])
def test_suite(suite, tmp_path):
    pytest.importorskip(suite)
    main = runpy.run_path(str(EXPERIMENTS / "suite.py"))["main"]
    found = main(["--smoke", "--only", suite, "--out", str(tmp_path / "suite")])
    assert all(np.isfinite(x).all() for x in found[suite].values())
    assert suite in (tmp_path / "suite" / "table.md").read_text()


@pytest.mark.slow
def test_lag(tmp_path):
    found = _smoke("lag", tmp_path, ["lag"])
    assert len(found) == 8 and all(np.isfinite(x).all() for x in found.values())


@pytest.mark.slow
def test_pathwise(tmp_path):
    found = _smoke("pathwise", tmp_path, ["pathwise"])
    assert all(abs(row["bias_z"]) < 5 for row in found.values())
    for horizon in (3, 10):
        own, score = (found["Reacher-misc", horizon, row]["trace"]["value"] for row in ("pathwise", "time"))
        assert score > 100 * own


@pytest.mark.slow
def test_grpo_bias(tmp_path):
    found = _smoke("grpo_bias", tmp_path, ["grpo_bias"])
    for point in found.values():
        for samples, rows in point["rows"].items():
            for row in rows.values():
                factor, se = row["factors"].T
                assert np.abs(row["z"]).max() < 5 and np.abs((factor - row["expected factors"]) / se).max() < 5
            np.testing.assert_allclose(rows["RLOO"]["expected factors"], 1, rtol=1e-9)
            np.testing.assert_allclose(rows["Dr. GRPO"]["expected factors"], 1 - 1 / samples, rtol=1e-9)
            # Of two unlike answers both have advantages of 1 and -1.
            assert (samples > 2) == (rows["GRPO, summed"]["expected factors"].min() > 1.01)
            assert np.abs(rows["RLOO"]["z of truth"]).max() < 5 < np.abs(rows["GRPO"]["z of truth"][1])


@pytest.mark.slow
def test_grpo_family(tmp_path):
    run = runpy.run_path(str(EXPERIMENTS / "grpo_family.py"))["main"]
    found = run(["--smoke", "--seeds", "2", "--only", "dapo,remax,spo", "--out", str(tmp_path)])
    assert {name: list(rows) for name, rows in found.items()} == {"addition": ["remax", "dapo"], "CartPole-v1": ["spo"]}
    assert (tmp_path / "table.md").read_text().count("\n| ") == 4
    for columns in found["addition"].values():
        assert all(x.shape == (2,) and (x >= 0).all() and (x <= 1).all() for x in columns)


@pytest.mark.slow
def test_verifiable_math(tmp_path):
    run = runpy.run_path(str(EXPERIMENTS / "verifiable_math.py"))["main"]
    found = run(["--smoke", "--seeds", "2", "--only", "grpo,ppo", "--out", str(tmp_path)])
    assert list(found) == ["GRPO", "PPO, value head"]
    assert (tmp_path / "verifiable_math.png").stat().st_size > 10_000
    for row in found.values():
        assert row["best"].shape == (2, 6) and np.all(np.diff(row["best"], axis=1) >= -1e-6)
        assert row["curve"].shape == (2, 3)


@pytest.mark.slow
def test_rlhf(tmp_path):
    found = _smoke("rlhf", tmp_path, ["rlhf"])
    assert found["rlhf"]["gold"].shape == (2, 2, 3)
    assert np.allclose(found["rlhf"]["kl"][:, :, 0], 0, atol=1e-5) and np.all(found["rlhf"]["kl"][:, :, -1] != 0)
    assert np.all(np.diff(found["best"]["proxy"], axis=1) >= 0)

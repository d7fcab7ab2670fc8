"""The two bandit experiments: exact numbers, a loop from Williams' equation, and each at its smoke size."""

import itertools
import json
import pathlib
import runpy

import numpy as np
import pytest

EXPERIMENTS = pathlib.Path(__file__).parents[2] / "experiments"
EASY, HARD = (0.6, 0.4), (0.96, 0.94)


@pytest.fixture(scope="module")
def curves():
    return runpy.run_path(str(EXPERIMENTS / "bandit.py"))


@pytest.fixture(scope="module")
def update():
    return runpy.run_path(str(EXPERIMENTS / "bandit_update.py"))


def williams(seed, chance, baseline, runs, looks, rate=0.05):
    """P(better arm) [look, run] by theta += rate (r - b)(e_a - pi) (Williams 1992, eq. 11), in float64 numpy."""
    rng = np.random.default_rng(seed)
    theta, total, seen = np.zeros((runs, 2)), np.zeros(runs), {}
    for n in range(1, max(looks) + 1):
        odds = np.exp(theta)
        pi = odds / odds.sum(axis=1, keepdims=True)
        action = (rng.random(runs) >= pi[:, 0]).astype(int)
        reward = (rng.random(runs) < np.asarray(chance)[action]).astype(float)
        total += reward
        b = {
            "no baseline": 0.0,
            "constant 1/2": 0.5,
            "running average": total / n,
            "exact value": pi @ chance,
        }[baseline]
        theta += rate * (reward - b)[:, None] * (np.eye(2)[action] - pi)
        if n in looks:
            seen[n] = 1 / (1 + np.exp(theta[:, 1] - theta[:, 0]))
    return np.stack([seen[n] for n in looks])


def z_of_means(x, y):
    """[look] of samples [look, run] and [look, run]."""
    noise = x.var(axis=1) / x.shape[1] + y.var(axis=1) / y.shape[1]
    return (x.mean(axis=1) - y.mean(axis=1)) / np.sqrt(noise)


class TestOneUpdate:
    def test_worked_by_hand(self, update):
        found = {name: package for name, (package, _) in update["hand_worked"]().items()}
        known = {
            "sigmoid, P after 1 update": 0.6224593312,
            "sigmoid, P after 2 updates": 0.7063123281,
            "Gibbs at tau 1, theta of the drawn": 0.1,
            "Gibbs at tau 1, theta of the other": -0.1,
            "Gibbs at tau 1, P(drawn)": 0.549833997312478,
            "Gibbs at tau 0.5, P(drawn)": 1 / (1 + np.exp(-0.8)),
        }
        for name, value in known.items():
            np.testing.assert_allclose(found[name], value, atol=6e-11, rtol=0)
        np.testing.assert_allclose(found["Gibbs at tau 1, P(drawn)"], 0.549833997312478, rtol=1e-14)

    @pytest.mark.parametrize(
        ("system", "mean", "variance"),
        [
            ("arms 0/1, sigmoid, theta 0", 0.25, 0.0625),
            ("arms 0/1, sigmoid, theta 2", 0.1049935854, 0.0014918892),
            ("arms 0/1, sigmoid, theta 2, b = V", 0.1049935854, 0.0608989735),
            ("arms 0/1, sigmoid, theta 2, b = 1 - p", 0.1049935854, 0),
            ("arms .94/.96, sigmoid, theta 0", 0.005, 0.237475),
            ("arms .94/.96, sigmoid, theta 0, b = V", 0.005, 0.01185),
            ("arms .94/.96, softmax, theta 0", 0.005, 0.237475),
            ("arms .94/.96, softmax, theta 0, b = V", 0.005, 0.01185),
        ],
    )
    def test_mean_and_variance_of_one_sample(self, update, system, mean, variance):
        system = update["systems"]()[system]
        exact = update["enumerated"](*system)
        # Chances are float32 in the world, here they are not.
        np.testing.assert_allclose([exact["mean"], exact["variance"]], [mean, variance], atol=6e-11, rtol=0)
        for name, (value, se) in update["sampled"](3, *system, 4096).items():
            assert abs(value - exact[name]) < 5 * se + 1e-6, name

    def test_the_value_lowers_the_variance_only_below_two_thirds(self, update):
        for p, lower in ((0.6, True), (0.66, True), (0.67, False), (0.9, False)):
            theta = np.log(p / (1 - p))
            value = update["reinforce"](update["exact_value"]([(0.0, 1.0)]))
            none, with_value = (
                update["enumerated"]((0.0, 1.0), "sigmoid", theta, a)["variance"]
                for a in (update["reinforce"](), value)
            )
            np.testing.assert_allclose([none, with_value], p * (1 - p) * np.array([(1 - p) ** 2, (1 - 2 * p) ** 2]))
            assert (with_value < none) == lower


class TestCurves:
    @pytest.mark.parametrize("baseline", ["no baseline", "constant 1/2", "running average", "exact value"])
    def test_training_agrees_with_a_loop(self, curves, baseline):
        """At every update of the first ten, and at 100."""
        advantage, _ = curves["baselines"](HARD)[baseline]
        better = curves["probability"](curves["train"](HARD, advantage, 2000, 100)[0])
        looks = curves["looks"](100)
        loop = williams(1, HARD, baseline, 20000, looks[1:])
        first = 2 if baseline == "running average" else 1  # the first reward is its own average: no step
        assert np.abs(z_of_means(better[first:], loop[first - 1 :])).max() < 4.5
        deviation = better[first:].std(axis=1) / loop[first - 1 :].std(axis=1)
        np.testing.assert_allclose(deviation, 1, atol=0.1)
        if first == 2:
            assert (better[1] == 0.5).all() and (loop[0] == 0.5).all()

    @pytest.mark.parametrize("baseline", ["no baseline", "constant 1/2", "exact value"])
    def test_the_law_is_that_of_every_sequence_of_outcomes(self, curves, baseline):
        p, weight = curves["law"](HARD, curves["baselines"](HARD)[baseline][1], 5)
        moments = np.zeros((6, 2))
        for sequence in itertools.product(range(4), repeat=5):
            chance, x = 1.0, 0.0
            for n, (arm, reward) in enumerate(divmod(outcome, 2) for outcome in sequence):
                now = 1 / (1 + np.exp(-x))
                b = {"no baseline": 0, "constant 1/2": 0.5, "exact value": now * HARD[0] + (1 - now) * HARD[1]}[
                    baseline
                ]
                chance *= (now, 1 - now)[arm] * (1 - HARD[arm], HARD[arm])[reward]
                x += 2 * 0.05 * (reward - b) * (1 - now, -now)[arm]
                after = 1 / (1 + np.exp(-x))
                # Each prefix is met once for every way that it can go on.
                moments[n + 1] += chance * np.array([after, (after - 0.5) ** 2]) / 4 ** (4 - n)
        found = np.stack([weight @ p, weight @ (p - 0.5) ** 2], axis=1)
        np.testing.assert_allclose(found[1:], moments[1:], atol=1e-6)
        np.testing.assert_allclose(weight.sum(axis=1), 1, rtol=1e-12)

    def test_known_means_of_the_gibbs_policy(self, curves):
        """GROUND_TRUTH has them of 10,000 runs, to three digits."""
        p, weight = curves["law"](EASY, curves["baselines"](EASY)["no baseline"][1], 1000, width=4e-3)
        mean = dict(zip(curves["looks"](1000), weight @ p, strict=True))
        np.testing.assert_allclose([mean[100], mean[1000]], [0.616, 0.933], atol=1e-3)

    def test_the_law_without_a_baseline_has_the_higher_median_and_the_lost_runs(self, curves):
        laws = {
            name: curves["law"](HARD, b, 10000, width=8e-3) for name, (_, b) in curves["baselines"](HARD).items() if b
        }
        last = {name: curves["describe"](np.array([0.5]), (p, w[-1])) for name, (p, w) in laws.items()}
        none, value = last["no baseline"], last["exact value"]
        assert none["exact_quantiles"]["0.5"] > value["exact_quantiles"]["0.5"]
        assert none["mean"]["exact"] < 0.8 < 0.9 < value["mean"]["exact"]
        assert none["below"]["0.05"]["exact"] > 0.1 and value["below"]["0.05"]["exact"] < 1e-9


@pytest.mark.slow
def test_bandit(tmp_path, curves):
    found = curves["main"](["--smoke", "--out", str(tmp_path)])
    for figure in ("learning", "baselines"):
        assert (tmp_path / f"{figure}.png").stat().st_size > 10_000
    assert len(found) == 5
    for curve in found.values():
        mean = curve["at"]["100"]["mean"]
        assert abs(mean["value"] - mean.get("exact", mean["value"])) < 5 * mean["se"]
    written = json.loads((tmp_path / "summary.json").read_text())
    assert {"seeds", "seconds", "versions", "device", "curves"} <= set(written)


@pytest.mark.slow
def test_bandit_update(tmp_path, update):
    worked, found = update["main"](["--smoke", "--out", str(tmp_path)])
    assert (tmp_path / "bandit_update.png").stat().st_size > 10_000 and (tmp_path / "summary.json").is_file()
    for package, closed in worked.values():
        np.testing.assert_allclose(package, closed, atol=1e-14)
    assert found["arms 0/1, sigmoid, theta 2, b = V"]["variance"]["exact"] > 0.06

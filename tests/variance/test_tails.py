"""The laboratory's tails: their shape, the interval of a mean that allows for them, and what can't be known."""

import io
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import variance
from pgjax.testing import UndecidedError, check_unbiased
from pgjax.testing.unbiased import small_world
from pgjax.variance.findings import bias_and_variance, doubts, jackknife_folds, table, tails


def pareto(k, shape, seed=0):
    """Draws of the generalised Pareto distribution of shape k and scale 1, by its quantile function."""
    return (np.random.default_rng(seed).random(shape) ** -k - 1) / k


@pytest.mark.parametrize("k", [0.1, 0.3, 0.5, 0.8])
def test_the_shape_of_a_generalised_pareto_tail(k):
    """Its standard error is (1 + k) / sqrt(M), M = 3 sqrt(N) (the Fisher information of the shape)."""
    found = np.array([tails.pareto_k(x) for x in pareto(k, (200, 4096))])
    error = (1 + k) / math.sqrt(192)
    assert abs(found.mean() - k) < 5 * error / math.sqrt(200) + 0.01 and 0.8 * error < found.std() < 1.25 * error


def test_a_candidate_that_is_an_exponential_tail_is_its_limit():
    """Of 1,140 numbers the tail is 102 long, its candidates are 40, and the third one is 0 where most are equal."""
    values = np.concatenate([np.linspace(0, 1, 1038), np.full(90, 2.0), np.linspace(1.2, 1.9, 12)])
    jittered = values * (1 + 1e-9 * np.random.default_rng(0).normal(size=1140))
    assert math.isfinite(tails.pareto_k(values))
    np.testing.assert_allclose(tails.pareto_k(values), tails.pareto_k(jittered), atol=1e-3)


def test_the_same_shape_by_the_formulas_of_the_paper_in_a_loop():
    """Zhang & Stephens (2009), written out one candidate at a time."""
    values = np.sort(pareto(0.4, 400))
    above = values[-60:] - values[-61]
    n, points = 60, 30 + int(math.sqrt(60))
    theta, shape, likelihood = [], [], []
    for i in range(1, points + 1):
        theta.append(1 / above[-1] + (1 - math.sqrt(points / (i - 0.5))) / (3 * above[int(n / 4 + 0.5) - 1]))
        shape.append(-sum(math.log(1 - theta[-1] * x) for x in above) / n)
        likelihood.append(n * (math.log(theta[-1] / shape[-1]) + shape[-1] - 1))
    weight = [1 / sum(math.exp(other - own) for other in likelihood) for own in likelihood]
    mean = sum(w * t for w, t in zip(weight, theta, strict=True))
    wanted = sum(math.log(1 - mean * x) for x in above) / n
    assert tails.pareto_k(values) == pytest.approx(wanted, rel=1e-9)


def test_tails_without_a_shape():
    g = np.random.default_rng(0)
    assert tails.pareto_k(np.ones(300)) == -math.inf == tails.pareto_k(np.zeros(300))
    assert tails.pareto_k(g.integers(0, 2, 400)) == -math.inf  # a bound that is reached often
    assert tails.pareto_k(np.r_[np.ones(297), 1e6, 1e6, 1e5]) == math.inf  # too few to fit, and nearly all there is
    assert math.isnan(tails.pareto_k(g.random(24))) and math.isnan(tails.pareto_k(np.r_[g.random(99), math.inf]))
    assert tails.pareto_k(g.random(400)) < -0.5 and tails.pareto_k(np.abs(g.normal(size=4000))) < 0.1


CASES = {
    "exponential": (lambda g, n: g.exponential(size=n), 1.0),
    "weibull 1/3": (lambda g, n: g.weibull(1 / 3, size=n), 6.0),
    "pareto .4": (lambda g, n: (g.random(n) ** -0.4 - 1) / 0.4, 1 / 0.6),
    "chi-square 1": (lambda g, n: g.normal(size=n) ** 2, 1.0),
    "a coin": (lambda g, n: (g.random(n) < 0.1) * 1.0, 0.1),
}


@pytest.mark.parametrize("name", CASES)
def test_the_interval_of_a_mean_covers(name):
    """93 % or more, within 2.5 binomial standard errors; by the standard error alone 80 % of Weibull's 1 / 3."""
    draw, mean = CASES[name]
    g, repeats = np.random.default_rng(0), 200
    ends = np.array([tails.mean_interval(draw(g, 256), draws=1000) for _ in range(repeats)])
    covered = np.mean((ends[:, 0] <= mean) & (mean <= ends[:, 1]))
    assert covered > 0.93 - 2.5 * math.sqrt(0.93 * 0.07 / repeats)


def test_the_interval_of_what_has_no_tail():
    assert tails.mean_interval(np.full(300, 2.0)) == pytest.approx((2.0, 2.0))
    assert np.isnan(tails.mean_interval(np.ones(20))).all()
    low, high = tails.mean_interval(np.random.default_rng(0).random(100_000))
    assert low < 0.5 < high and high - low < 1.3 * 2 * 1.96 * math.sqrt(1 / 12 / 100_000)


def test_a_limit_of_the_shape_grows_with_the_sample():
    """min(1 - 1 / log10 N, .7), Vehtari et al. 2024."""
    assert tails.limit(100) == pytest.approx(0.5) and tails.limit(10**6) == 0.7


def test_weights_whose_mean_is_not_1_are_doubted():
    """The large ones were not drawn: their tail looks short."""
    g = np.random.default_rng(0)
    assert not doubts.weights(np.ones(256))["doubt"]
    assert not doubts.weights(np.exp(g.normal(-0.02, 0.2, 4096)))["doubt"]
    assert "should be 1" in doubts.weights(np.exp(g.normal(-2, 0.2, 4096)))["doubt"]
    assert "Pareto k" in doubts.weights(pareto(0.9, 4096) * 0.1)["doubt"]


def farther(scale):
    """Parameters that act: the small world's preferences moved."""
    params = small_world()[2]
    moved = params["preference"] + scale * jnp.array([[-1.0, 1.0]] * 3)
    return {**params, "preference": moved}


class TestTheThirdOutcome:
    def test_near_parameters_pass(self):
        check_unbiased("is_decision", episodes=8192, behaviour=farther(0.2))

    def test_what_is_far_is_undecided(self):
        with pytest.raises(UndecidedError, match="undecided: .*give episodes=8192 a larger value") as caught:
            check_unbiased("is_trajectory", episodes=8192, behaviour=farther(3.0))
        assert not isinstance(caught.value, AssertionError) and "\n" not in str(caught.value)

    def test_a_bias_is_still_found_off_policy(self):
        with pytest.raises(AssertionError, match="biased: its mean is"):
            check_unbiased("no_gamma_t", episodes=65_536, behaviour=farther(0.2))

    def test_a_long_tail_of_ones_own_is_undecided(self):
        """Unbiased or not, nobody can tell: an infinite mean."""

        def estimate(key, params):
            size = jax.random.uniform(key, minval=1e-6) ** -1.2
            return jax.tree.map(lambda x: size * jnp.ones_like(x), params)

        with pytest.raises(UndecidedError, match="the estimates have a Pareto k of .*can't be trusted"):
            check_unbiased(variance.Sampler(estimate), episodes=4096)


def shown(summary):
    from rich.console import Console

    out = io.StringIO()
    Console(width=200, file=out).print(table.table(summary))
    return out.getvalue()


class TestWhatIsSaid:
    def test_doubts_are_in_the_summary_and_in_the_table(self):
        report = variance.compare(
            ["is_trajectory", "v_trace"],
            *small_world(),
            behaviour=farther(3.0),
            discount=0.9,
            episodes=512,
            batch=(1, 4),
        )
        row = report.summary["estimators"]["is_trajectory"]
        assert {"bias_z", "trace"} <= set(row["untrusted"]) and row["doubt"]
        assert report.summary["weights"]["doubt"] and report.summary["weights"]["mean"]["value"] > 0
        text = shown(report.summary)
        line = next(x for x in text.splitlines() if "is_trajectory" in x and "?" in x)
        assert line and "can't be trusted" in text

    def test_a_gradient_of_0_is_said_to_be_0_within_its_error(self):
        """And no ratio to it has a number."""
        env, policy, params = small_world()
        zero = lambda key, p: jax.tree.map(lambda x: jax.random.normal(key, x.shape), p)  # noqa: E731
        exact = lambda p: jax.tree.map(lambda x: np.zeros(x.shape), p)  # noqa: E731
        report = variance.compare({"mine": zero}, env, policy, params, episodes=512, batch=(1, 4), gradient=exact)
        row = report.summary["estimators"]["mine"]
        assert report.summary["gradient_norm"]["zero"] and row["bias_z"] < 5
        for name in ("relative_bias", "noise_scale", "mean_cosine", "samples_90", "samples_99"):
            assert math.isnan(row[name]["value"]), name
        assert all(math.isnan(p["value"]) for q in ("cosine", "ascends") for p in row[q])
        text = shown(report.summary)
        assert "0 within its error" in text and "e+1" not in text

    def test_a_reference_of_0_is_0_within_its_error(self):
        g = np.random.default_rng(0)
        noise = g.normal(size=(32, 4))
        truth = noise.mean(axis=0)
        found = bias_and_variance.norm(truth, noise - truth, 1.0)
        assert found["zero"] and 0 < found["se"] < 1 and "0 within its error" in table.show(found)
        far = bias_and_variance.norm(truth + 5, noise - truth, 1.0)
        assert "zero" not in far and abs(far["value"] - 10) < 5 * far["se"] < 2

    def test_an_estimator_without_variance_has_no_ratio_to_it(self):
        env, policy, params = small_world()
        chosen = {
            "nothing": lambda key, p: jax.tree.map(jnp.zeros_like, p),
            "constant": lambda key, p: jax.tree.map(jnp.ones_like, p),
        }
        found = variance.compare(chosen, env, policy, params, discount=0.9, episodes=256, batch=(1, 4)).summary
        assert math.isnan(found["estimators"]["nothing"]["snr"]["value"])
        assert found["estimators"]["constant"]["snr"]["value"] == math.inf
        assert math.isnan(found["estimators"]["nothing"]["mean_cosine"]["value"])
        assert "∞" in shown(found)


def test_the_test_of_bias_has_a_number_where_one_fold_is_all_there_is():
    """The estimate of tr S^2 comes out as nothing there, and the z was infinite."""
    off = np.zeros((32, 3))
    off[0] = 1e3, -1e3, 5e2
    assert math.isfinite(jackknife_folds.surprise(off, None)) and jackknife_folds.surprise(off, None) < 5

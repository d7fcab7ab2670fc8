"""Statistics of scores against loops written from the papers, exhaustive enumeration and scipy."""

import functools
import itertools
import math
import pathlib
import runpy

import numpy as np
import pytest
from scipy import stats

from pgjax import statistics


def sample(runs=8, tasks=3, seed=0):
    return np.random.default_rng(seed).normal(size=(runs, tasks)) * (1 + np.arange(tasks))


@pytest.mark.parametrize("count", [1, 3, 4, 16, 17, 32])
def test_iqm_is_scipys_trimmed_mean(count):
    values = np.random.default_rng(count).normal(size=(count, 3))
    np.testing.assert_allclose(statistics.iqm(values, axis=0), stats.trim_mean(values, 0.25, axis=0))
    np.testing.assert_allclose(statistics.iqm(values, axis=None), stats.trim_mean(values, 0.25, axis=None))


def test_iqm_is_nan_where_a_run_is_missing_and_naniqm_is_of_the_others():
    values = sample(9, 4)
    values[2, 1] = values[:, 3] = np.nan
    np.testing.assert_array_equal(np.isnan(statistics.iqm(values, axis=0)), [False, True, False, True])
    others = [stats.trim_mean(column[~np.isnan(column)], 0.25) for column in values.T[:3]]
    np.testing.assert_allclose(statistics.naniqm(values, axis=0), [*others, np.nan])


COVERAGE = runpy.run_path(str(pathlib.Path(__file__).parents[2] / "benchmarks" / "coverage.py"))


@pytest.mark.parametrize("scores, statistic", [("normal", "IQM"), ("normal", "mean"), ("lognormal", "IQM")])
@pytest.mark.parametrize("seeds", [3, 4, 5, 8, 16])
def test_a_95_percent_interval_of_few_seeds_holds_the_true_value_in_93_percent_or_more(scores, statistic, seeds):
    repeats, true = 2000, COVERAGE["truth"](scores)[statistic]
    values = COVERAGE["sample"](scores, seeds, repeats)
    low, high = statistics.bootstrap(values, COVERAGE["STATISTICS"][statistic], draws=500)
    covered, error = np.mean((low <= true) & (true <= high)), math.sqrt(0.93 * 0.07 / repeats)
    assert covered > 0.93 - 3 * error
    assert covered < 0.98 + 3 * error  # nor does it hold more by being far too wide


def test_the_interval_of_a_mean_of_normal_scores_is_as_wide_as_students():
    values = np.random.default_rng(1).normal(size=(3, 4000))
    low, high = statistics.bootstrap(values, np.mean)
    half = stats.t.ppf(0.975, 2) * values.std(axis=0, ddof=1) / math.sqrt(3)
    assert np.mean(high - low) == pytest.approx(2 * half.mean(), rel=0.05)


def test_one_seed_has_no_interval():
    """None of a location with finite width has a coverage above 0 against every distribution."""
    one = np.array([[3.0, 4.0]])
    assert np.isnan(statistics.bootstrap(one)).all() and np.shape(statistics.bootstrap(one)) == (2, 2)
    assert np.isnan(statistics.stratified(one)).all()
    assert statistics.difference(one[0, :1], one[0])[0] == -0.5
    assert np.isnan(statistics.difference(one[0, :1], one[0])[1:]).all()
    share, low, high = statistics.performance_profile(one[0, :1], [2.0, 5.0])
    assert share.tolist() == [1, 0] and np.isnan([low, high]).all()
    p, low, high = statistics.probability_of_improvement([1.0], [0.0, 2.0])
    assert p == 0.5 and math.isnan(low) and math.isnan(high)
    rank, low, high = statistics.ranking(one)
    assert rank.tolist() == [2, 1] and np.isnan([low, high]).all()


def test_bootstrap_agrees_with_scipys_but_for_the_few_seeds():
    values = np.random.default_rng(2).exponential(size=40)
    low, high = statistics.bootstrap(values, np.mean, draws=20_000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=0).confidence_interval
    by = math.sqrt(40 / 39) * stats.t.ppf(0.975, 39) / stats.norm.ppf(0.975)
    np.testing.assert_allclose([low, high], values.mean() + by * (np.array(theirs) - values.mean()), rtol=0.02)


def test_of_few_seeds_every_resample_is_taken_once():
    values = np.array([1.0, 2.0, 5.0])
    drawn = sorted(np.mean(x) for x in itertools.product(values, repeat=3))
    # Of 27 resamples, the fourth from either end: 10 % of them lie no further out.
    by = math.sqrt(3 / 2) * stats.t.ppf(0.9, 2) / stats.norm.ppf(0.9)
    wanted = values.mean() + by * (np.array([drawn[2], drawn[-3]]) - values.mean())
    np.testing.assert_allclose(statistics.bootstrap(values, np.mean, level=0.8), wanted)
    assert statistics.bootstrap(values, seed=1) == statistics.bootstrap(values, seed=2)


def test_bootstrap_resamples_every_further_axis_on_the_same_seeds_and_in_blocks():
    values = np.random.default_rng(3).normal(size=(5, 2000))
    low, high = statistics.bootstrap(values, draws=900)  # more than one block
    for column in (0, 1999):
        np.testing.assert_allclose(statistics.bootstrap(values[:, column], draws=900), (low[column], high[column]))


def test_stratified_interval_is_the_percentile_of_every_resample_moved_outwards():
    """Two runs of two tasks have 16 resamples, all equally likely: the distribution is known exactly."""
    values = np.array([[0.0, 10.0], [1.0, 30.0]])
    means = [
        (values[i, 0] + values[j, 0] + values[k, 1] + values[m, 1]) / 4
        for i, j, k, m in itertools.product(range(2), repeat=4)
    ]
    exact = np.percentile(means, [20, 80], method="inverted_cdf")
    v = values.var(axis=0, ddof=1)
    free = v.sum() ** 2 / (v**2).sum()
    by = math.sqrt(2) * stats.t.ppf(0.8, free) / stats.norm.ppf(0.8)
    found = statistics.stratified(values, np.mean, level=0.6, draws=4000)
    np.testing.assert_allclose(found, values.mean() + by * (exact - values.mean()))
    # Not stratified, both runs' pairs would stay together: only 0 + 10 and 1 + 30 would be drawn.
    drawn = []
    statistics.stratified(values, lambda x, axis: drawn.append(x) or x.mean(), draws=200)
    assert {(*x[0],) for x in drawn} == set(itertools.product(values[:, 0], values[:, 1]))
    assert all(set(x[:, 0]) <= {0.0, 1.0} and set(x[:, 1]) <= {10.0, 30.0} for x in drawn)


@pytest.mark.parametrize("runs, spread", [(20, (1, 1, 1)), (3, (1, 1, 1)), (3, (0.1, 0.1, 5))])
def test_stratified_interval_covers_the_mean_over_tasks(runs, spread):
    g = np.random.default_rng(4)
    trials, offsets = 200, np.array([0.0, 50.0, 100.0])
    hits = 0
    for trial in range(trials):
        values = g.normal(size=(runs, 3)) * np.array(spread) + offsets
        low, high = statistics.stratified(values, np.mean, draws=200, seed=trial)
        hits += low <= 50 <= high
    # Runs resampled across tasks would make it twenty times as wide and cover always.
    assert abs(hits / trials - 0.95) < 4 * (0.95 * 0.05 / trials) ** 0.5


def test_a_difference_has_welchs_interval():
    g = np.random.default_rng(9)
    trials, hits, wide = 400, 0, []
    for trial in range(trials):
        x, y = g.normal(1, 1, 4), g.normal(0, 4, 7)
        found, low, high = statistics.difference(x, y, np.mean, draws=400, seed=trial)
        assert found == pytest.approx(x.mean() - y.mean())
        hits += low <= 1 <= high
        theirs = stats.ttest_ind(x, y, equal_var=False).confidence_interval()
        wide.append((high - low) / (theirs.high - theirs.low))
    assert abs(hits / trials - 0.94) < 4 * (0.94 * 0.06 / trials) ** 0.5
    assert np.mean(wide) == pytest.approx(1, abs=0.05)


def test_optimality_gap_is_its_loop():
    values, target = sample(), 0.4
    total = 0.0
    for run in values:
        for score in run:
            total += max(0.0, target - score)
    assert statistics.optimality_gap(values, target) == pytest.approx(total / values.size)
    low, high = statistics.stratified(values, functools.partial(statistics.optimality_gap, target=target))
    assert low < total / values.size < high


def test_performance_profile_is_its_loop():
    values, thresholds = sample(), np.array([-5.0, -0.3, 0.0, 0.7, 9.0])
    values[0, 0] = 0.7  # on a threshold: not above it
    share, low, high = statistics.performance_profile(values, thresholds)
    for t, tau in enumerate(thresholds):
        tasks = [sum(score > tau for score in values[:, m]) / len(values) for m in range(values.shape[1])]
        assert share[t] == pytest.approx(sum(tasks) / len(tasks))
    # Beyond the best and the worst run too there may be others.
    assert (low <= share).all() and (share <= high).all() and 0 < low[0] < high[0] == 1 and 0 == low[-1] < high[-1] < 1
    for won in (0, 3, 10, 20):
        one, below, above = statistics.performance_profile(np.arange(20.0), [19.5 - won])
        wanted = stats.binomtest(won, 20).proportion_ci(method="exact")
        np.testing.assert_allclose([one[0], below[0], above[0]], [won / 20, wanted.low, wanted.high])


def test_probability_of_improvement_is_its_loop_and_scipys():
    g = np.random.default_rng(5)
    x, y = g.integers(0, 5, (6, 3)).astype(float), g.integers(0, 6, (9, 3)).astype(float)  # with ties
    tasks, theirs = [], []
    for m in range(3):
        wins = 0.0
        for a in x[:, m]:
            for b in y[:, m]:
                wins += 1.0 if a > b else 0.5 if a == b else 0.0
        tasks.append(wins / (len(x) * len(y)))
        theirs.append(stats.mannwhitneyu(x[:, m], y[:, m]).statistic / (len(x) * len(y)))
    p, low, high = statistics.probability_of_improvement(x, y)
    assert p == pytest.approx(sum(tasks) / 3) == pytest.approx(sum(theirs) / 3)
    assert low < p < high
    back, _, _ = statistics.probability_of_improvement(y, x)
    assert p + back == pytest.approx(1)


@pytest.mark.parametrize("shift", [0, 1, 3])
@pytest.mark.parametrize("seeds", [3, 4, 8])
def test_probability_of_improvement_is_held_by_its_interval(seeds, shift):
    repeats = 1000
    covered = COVERAGE["pairs"]("normal", shift, seeds, repeats)
    assert covered > 0.93 - 3 * math.sqrt(0.93 * 0.07 / repeats)


def test_where_no_run_lies_among_the_others_the_interval_has_a_width_and_is_as_sure_as_the_exact_test():
    for count in range(2, 8):
        p, low, high = statistics.probability_of_improvement(np.arange(count) + 100.0, np.arange(count))
        assert p == high == 1 and low < 0.95
        exact = stats.mannwhitneyu(np.arange(count) + 100, np.arange(count), method="exact").pvalue
        assert (low > 0.5) == (exact < 0.05)
    x = np.arange(4.0)
    p, low, high = statistics.probability_of_improvement(x + 100, x)
    np.testing.assert_allclose(statistics.probability_of_improvement(x, x + 100), (1 - p, 1 - high, 1 - low))
    # More tasks are more runs; the side with the fewer counts.
    one = statistics.probability_of_improvement(np.ones((3, 1)), np.zeros((9, 1)))
    assert one[1] < statistics.probability_of_improvement(np.ones((3, 4)), np.zeros((9, 4)))[1]
    assert one == statistics.probability_of_improvement(np.ones((3, 1)), np.zeros((3, 1)))


def test_ranks_are_scipys_with_ties_shared():
    values = np.tile([3.0, 9.0, 3.0, 1.0, 9.0, 4.0], (5, 1))
    rank, low, high = statistics.ranking(values, draws=50)
    np.testing.assert_array_equal(rank, stats.rankdata(-values[0]))
    np.testing.assert_array_equal(low, rank)
    np.testing.assert_array_equal(high, rank)


def test_ranks_resample_seeds_for_all_settings_together():
    """Where every setting gains the same from a lucky seed, their order is certain however much seeds differ."""
    luck = np.random.default_rng(6).normal(size=(8, 1)) * 100
    rank, low, high = statistics.ranking(luck + np.array([0.0, 2.0, 1.0]))
    np.testing.assert_array_equal([rank, low, high], [[3, 1, 2]] * 3)
    # Settings apart from each other: the same spread of each, and no order.
    g = np.random.default_rng(7)
    _, low, high = statistics.ranking(np.stack([g.permutation(luck[:, 0]) + x for x in (0, 2, 1)], axis=1))
    assert (high - low >= 1).all()


def test_rank_intervals_are_those_of_every_resample():
    values = np.array([[0.0, 1.0, 2.5], [4.0, 2.0, 2.5], [1.0, 3.0, 2.5]])
    every = []
    for pick in itertools.product(range(3), repeat=3):
        every.append(values[list(pick)].mean(axis=0))  # of three runs the IQM cuts none
    middle = values.mean(axis=0)
    for level in (0.5, 0.8, 0.95):
        by = math.sqrt(3 / 2) * stats.t.ppf((1 + level) / 2, 2) / stats.norm.ppf((1 + level) / 2)
        ranks = stats.rankdata(-(middle + by * (np.array(every) - middle)), axis=1)
        tail = 50 * (1 - level)
        low = np.percentile(ranks, tail, axis=0, method="inverted_cdf")
        high = -np.percentile(-ranks, tail, axis=0, method="inverted_cdf")
        np.testing.assert_allclose(statistics.ranking(values, level=level)[1:], [low, high])


def test_rank_intervals_of_three_seeds_hold_the_true_ranks():
    repeats = 150  # of ten settings each
    assert COVERAGE["ranks"]("normal", 10, 0.3, 3, repeats) > 0.93 - 3 * math.sqrt(0.93 * 0.07 / repeats)


def test_a_missing_run_is_left_out_of_its_own_setting_and_a_setting_without_runs_ranks_last():
    values = np.array([[5.0, 1.0, np.nan], [7.0, np.nan, np.nan], [6.0, 100.0, np.nan]])
    rank, low, high = statistics.ranking(values)
    np.testing.assert_array_equal(rank, [2, 1, 3])
    assert np.isnan(low[2]) and np.isnan(high[2])
    # Of its single score nothing is known of others; those of the setting with more still have an interval.
    one = np.array([[5.0, 1.0], [7.0, np.nan]])
    rank, low, high = statistics.ranking(one)
    assert rank.tolist() == [1, 2] and np.isfinite([low[0], high[0]]).all() and np.isnan([low[1], high[1]]).all()


def simulated_power(n, difference, deviations, paired, trials=20_000):
    """How often the t test of scipy finds the difference with n seeds each."""
    g = np.random.default_rng(n)
    x = g.normal(difference, deviations[0], (trials, n))
    if paired:
        return np.mean(stats.ttest_1samp(x, 0, axis=1).pvalue < 0.05)
    return np.mean(stats.ttest_ind(x, g.normal(0, deviations[1], (trials, n)), axis=1, equal_var=False).pvalue < 0.05)


@pytest.mark.parametrize("effect", [0.5, 1.0, 2.0, 3.0, 10.0])
@pytest.mark.parametrize("deviations", [(1.0,), (1.0, 1.0), (1.0, 3.0)])
def test_the_seeds_needed_reach_the_power_and_one_less_does_not(effect, deviations):
    paired = len(deviations) == 1
    z = np.tile([-1.0, 1.0], 50)
    z = z / z.std(ddof=1)
    # A large spread shared by both, as of lucky seeds: only the paired test takes it away.
    luck = 30 * np.repeat([-1.0, 1.0], 50)
    difference = effect * math.hypot(*deviations)
    x, y = (difference + z + luck, luck) if paired else (difference + deviations[0] * z, deviations[1] * z)
    seeds, design = statistics.seeds_needed(x, y, common=paired)
    assert design == ("paired" if paired else "unpaired")
    error = 4 * math.sqrt(0.8 * 0.2 / 20_000)
    assert simulated_power(int(seeds), difference, deviations, paired) > 0.8 - error
    # Welch's test of so few finds it less often than its own degrees of freedom promise.
    if seeds > 2:
        assert simulated_power(int(seeds) - 1, difference, deviations, paired) < 0.8 + error


def test_many_seeds_are_counted_as_the_exact_power_says():
    """On both sides of where the normal approximation takes over."""
    z = np.tile([-1.0, 1.0], 50) / np.sqrt(100 / 99)
    for effect in (0.1, 0.0885, 0.08):
        n, _ = statistics.seeds_needed(effect + z, np.zeros(100))
        power = lambda n: stats.nct(n - 1, effect * math.sqrt(n)).sf(stats.t(n - 1).ppf(0.975))  # noqa: B023, E731
        assert power(n) >= 0.8 > power(n - 1)


def test_the_better_design_is_chosen():
    z = np.tile([-1.0, 1.0], 10)
    assert statistics.seeds_needed(1 + z, -z).design == "unpaired"  # opposed: the difference varies most
    assert statistics.seeds_needed(1 + z, z).design == "paired"
    assert statistics.seeds_needed(1 + z, z) == (2, "paired")  # a constant difference needs 2 to be seen


def test_equal_means_are_never_told_apart():
    x = np.random.default_rng(8).normal(size=16)
    assert statistics.seeds_needed(x, x[::-1]).seeds == math.inf
    assert statistics.seeds_needed([1.0, 2.0], [1.0, 2.0]).seeds == math.inf


def test_pairs_without_a_score_are_left_out():
    x, y = np.array([1.0, 2.0, 4.0, np.nan, 5.0]), np.array([0.0, 1.5, np.nan, 3.0, 3.0])
    kept = statistics.seeds_needed(x[[0, 1, 4]], y[[0, 1, 4]])
    assert kept.design == "paired" and statistics.seeds_needed(x, y) == kept


def test_missing_runs_make_the_statistics_of_one_sample_missing():
    values = sample()
    values[1, 1] = np.nan
    assert np.isnan(statistics.bootstrap(values, draws=200)[0]).tolist() == [False, True, False]
    assert np.isnan(statistics.stratified(values, draws=50)).all()
    assert np.isnan(statistics.optimality_gap(values, 1.0))
    assert np.isnan(statistics.performance_profile(values, [0.0])).all()
    assert np.isnan(statistics.probability_of_improvement(values, sample())).all()


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: statistics.bootstrap([]), "values must hold a run"),
        (lambda: statistics.bootstrap([1.0, 2.0], level=95), "level must lie between 0 and 1, got 95"),
        (lambda: statistics.bootstrap([1.0, 2.0], draws=0), "draws must be 1 or more"),
        (lambda: statistics.stratified(np.ones((2, 2, 2))), "values must be .runs. or .runs, tasks."),
        (
            lambda: statistics.probability_of_improvement(np.ones((3, 2)), np.ones((3, 4))),
            "the same tasks, got 2 and 4",
        ),
        (lambda: statistics.seeds_needed([1.0, 2.0, 3.0], [1.0, 2.0]), "got 3 and 2; or give common=False"),
        (lambda: statistics.seeds_needed([1.0, np.nan], [1.0, 2.0]), "2 scores or more each, got 1 and 2"),
        (lambda: statistics.seeds_needed([1.0, 2.0], [1.0, 2.0], power=80), "power must lie between 0 and 1, got 80"),
    ],
)
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([500.0] * 3, [0.1 + 0.2, 0.3, 0.3]),  # a difference of 1e19 deviations
        ([500.0] * 3, [1e-8, 0.0, 0.0]),
        ([0.0, 1e-85], [1.0, 1.0]),
        ([1e100, 2e100], [3e100, 1e100]),
    ],
)
def test_seeds_needed_of_scores_that_hardly_vary_or_are_huge(x, y):
    seeds, _ = statistics.seeds_needed(np.array(x), np.array(y))
    largest = max(np.abs(x).max(), np.abs(y).max())
    assert seeds == statistics.seeds_needed(np.array(x) / largest, np.array(y) / largest).seeds
    assert seeds == 2 or np.ptp(x) > 0.1 * largest

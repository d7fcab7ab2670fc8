"""Statistics of scores against loops written from the papers, exhaustive enumeration and scipy."""

import functools
import itertools
import math

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


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    g = np.random.default_rng(1)
    trials, hits = 300, 0
    for trial in range(trials):
        low, high = statistics.bootstrap(g.normal(size=30), np.mean, draws=300, seed=trial)
        hits += low <= 0 <= high
    # Percentile intervals of 30 values cover a little less than their level: 93 % here.
    expected = 0.935
    assert abs(hits / trials - expected) < 4 * (expected * (1 - expected) / trials) ** 0.5


def test_bootstrap_agrees_with_scipys():
    values = np.random.default_rng(2).exponential(size=40)
    low, high = statistics.bootstrap(values, np.mean, draws=20_000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=0).confidence_interval
    np.testing.assert_allclose([low, high], theirs, rtol=0.02)


def test_bootstrap_resamples_every_further_axis_on_the_same_seeds_and_in_blocks():
    values = np.random.default_rng(3).normal(size=(5, 2000))
    low, high = statistics.bootstrap(values, draws=900)  # more than one block
    for column in (0, 1999):
        np.testing.assert_allclose(statistics.bootstrap(values[:, column], draws=900), (low[column], high[column]))


def test_stratified_interval_is_the_percentile_of_every_resample():
    """Two runs of two tasks have 16 resamples, all equally likely: the distribution is known exactly."""
    values = np.array([[0.0, 10.0], [1.0, 30.0]])
    means = [
        (values[i, 0] + values[j, 0] + values[k, 1] + values[m, 1]) / 4
        for i, j, k, m in itertools.product(range(2), repeat=4)
    ]
    exact = np.percentile(means, [20, 80], method="inverted_cdf")
    found = statistics.stratified(values, np.mean, level=0.6, draws=4000)
    np.testing.assert_allclose(found, exact)
    # Not stratified, both runs' pairs would stay together: only 0 + 10 and 1 + 30 would be drawn.
    drawn = []
    statistics.stratified(values, lambda x, axis: drawn.append(x) or x.mean(), draws=200)
    assert {(*x[0],) for x in drawn} == set(itertools.product(values[:, 0], values[:, 1]))
    assert all(set(x[:, 0]) <= {0.0, 1.0} and set(x[:, 1]) <= {10.0, 30.0} for x in drawn)


def test_stratified_interval_covers_the_mean_over_tasks():
    g = np.random.default_rng(4)
    trials, offsets = 300, np.array([0.0, 50.0, 100.0])
    hits = 0
    for trial in range(trials):
        low, high = statistics.stratified(g.normal(size=(20, 3)) + offsets, np.mean, draws=300, seed=trial)
        hits += low <= 50 <= high
    # Runs resampled across tasks would make it twenty times as wide and cover always.
    expected = 0.935
    assert abs(hits / trials - expected) < 4 * (expected * (1 - expected) / trials) ** 0.5


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
    assert (low <= share).all() and (share <= high).all() and low[0] == high[0] == 1 and low[-1] == high[-1] == 0
    # The band of one task is that of a binomial share.
    one, below, above = statistics.performance_profile(np.arange(20.0), [9.5], draws=20_000)
    wanted = stats.binom(20, 0.5).ppf([0.025, 0.975]) / 20
    np.testing.assert_allclose([below[0], above[0]], wanted)
    assert one[0] == 0.5


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


def test_probability_of_improvement_interval_is_that_of_every_resample():
    """Two against two, no ties: of the 4 x 4 equally likely resamples each probability is known."""
    x, y = np.array([1.0, 3.0]), np.array([0.0, 2.0])
    every = [
        np.mean([[a > b for b in (y[k], y[m])] for a in (x[i], x[j])])
        for i, j, k, m in itertools.product(range(2), repeat=4)
    ]
    for level in (0.3, 0.6, 0.8):
        tail = 50 * (1 - level)
        wanted = np.percentile(every, [tail, 100 - tail], method="inverted_cdf")
        _, low, high = statistics.probability_of_improvement(x, y, level=level, draws=8000)
        np.testing.assert_allclose([low, high], wanted)


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
        score = values[list(pick)].mean(axis=0)  # of three runs the IQM cuts none
        every.append(stats.rankdata(-score))
    for level in (0.5, 0.8):
        tail = 50 * (1 - level)
        wanted = np.percentile(every, [tail, 100 - tail], axis=0, method="inverted_cdf")
        np.testing.assert_allclose(statistics.ranking(values, level=level, draws=9000)[1:], wanted)


def test_a_missing_run_is_left_out_of_its_own_setting_and_a_setting_without_runs_ranks_last():
    values = np.array([[5.0, 1.0, np.nan], [7.0, np.nan, np.nan], [6.0, 100.0, np.nan]])
    rank, low, high = statistics.ranking(values)
    np.testing.assert_array_equal(rank, [2, 1, 3])
    assert high[2] == 3 and low[2] >= 2


def exact_seeds(difference, deviation, paired, power=0.8, level=0.05):
    """The least number whose t test has the power, by the noncentral t distribution."""
    for n in range(2, 10_000):
        freedom = n - 1 if paired else 2 * (n - 1)
        error = deviation / math.sqrt(n)  # of the difference of means
        edge = stats.t(freedom).ppf(1 - level / 2)
        reached = stats.nct(freedom, difference / error).sf(edge) + stats.nct(freedom, difference / error).cdf(-edge)
        if reached >= power:
            return n
    return math.inf


@pytest.mark.parametrize("effect", [0.2, 0.5, 1.0, 2.0])
def test_seeds_needed_is_the_exact_power_of_the_t_test(effect):
    z = np.tile([-1.0, 1.0], 50)
    z = z / z.std(ddof=1)
    # A large spread shared by both, as of lucky seeds: only the paired test takes it away.
    luck = 30 * np.repeat([-1.0, 1.0], 50)
    seeds, design = statistics.seeds_needed(luck + effect + z, luck)
    assert design == "paired" and abs(seeds - exact_seeds(effect, 1.0, paired=True)) <= 1
    seeds, design = statistics.seeds_needed(effect + z, z, common=False)
    assert design == "unpaired" and abs(seeds - exact_seeds(effect, math.sqrt(2), paired=False)) <= 1


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
    assert np.isnan(statistics.performance_profile(values, [0.0], draws=50)).all()
    assert np.isnan(statistics.probability_of_improvement(values, sample(), draws=50)).all()


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

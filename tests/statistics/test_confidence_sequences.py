"""Confidence sequences against loops written from the papers, and their coverage at every number of seeds together."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from pgjax.statistics import sequences

ERROR, REPEATS = 0.1, 1000
GRID = 512


def paper(x, error):
    """Waudby-Smith and Ramdas 2024, eq. (26) and theorem 3, one score and one mean at a time: [N] of (low, high)."""
    grid, ends = np.linspace(0, 1, GRID + 1), []
    up, down, kept = np.ones_like(grid), np.ones_like(grid), np.ones(grid.shape, bool)
    mean, variance, total, squares = 0.5, 0.25, 0.5, 0.25
    for i, score in enumerate(x, 1):
        bet = math.sqrt(2 * math.log(2 / error) / (variance * i * math.log(i + 1)))
        for j, m in enumerate(grid):
            up[j] *= 1 + min(bet, 0.5 / m if m else math.inf) * (score - m)
            down[j] *= 1 - min(bet, 0.5 / (1 - m) if m < 1 else math.inf) * (score - m)
            kept[j] &= max(up[j] / 2, down[j] / 2) < 1 / error
        total += score
        mean = total / (i + 1)
        squares += (score - mean) ** 2
        variance = squares / (i + 1)
        ends.append((grid[kept].min(), grid[kept].max()))
    return np.array(ends)


def test_betting_is_the_papers_loop():
    x = np.random.default_rng(0).beta(2, 5, size=60)
    found, loop = sequences.betting(x, 0, 1, ERROR, steps=GRID), paper(x, ERROR)
    # Outwards: to the last mean that is refuted, where the loop has the first that isn't.
    step = 1 / GRID
    inside = (found.low > 0, found.high < 1)
    for end, outwards, within in zip((found.low, found.high), (-step, step), inside, strict=True):
        side = loop[:, 0 if outwards < 0 else 1]
        np.testing.assert_allclose(end[within], (side + outwards)[within], atol=1e-12)
        np.testing.assert_allclose(end[~within], np.round(side[~within]), atol=1e-12)
    assert inside[0].any() and inside[1].any()


def test_betting_has_no_side_and_no_unit():
    x = np.random.default_rng(1).uniform(-1, 1, size=(3, 40))
    found, mirrored, scaled = (
        sequences.betting(y, *bounds, ERROR, GRID)
        for y, bounds in ((x, (-1, 1)), (-x, (-1, 1)), (300 * x + 10, (-290, 310)))
    )
    np.testing.assert_allclose(found.low, -mirrored.high)
    np.testing.assert_allclose(300 * found.high + 10, scaled.high)


def test_the_asymptotic_interval_is_the_papers_and_narrowest_where_it_is_tuned():
    x, t = np.random.default_rng(2).exponential(size=60), 60
    found = sequences.asymptotic(x, ERROR, tuned=64)

    def half(square, t):  # theorem 2.2, with rho^2 = square
        return math.sqrt(2 * (t * square + 1) / (t**2 * square) * math.log(math.sqrt(t * square + 1) / ERROR))

    best = optimize.minimize_scalar(lambda log: half(math.exp(log), 64), bounds=(-8, 3), method="bounded")
    spread = x.std(ddof=1) * half(math.exp(best.x), t)
    np.testing.assert_allclose([found.low[-1], found.high[-1]], x.mean() + np.array([-spread, spread]), rtol=1e-6)
    assert np.isinf(found.low[: sequences.START - 1]).all() and np.isfinite(found.low[sequences.START - 1])


def test_the_iqms_interval_has_yuens_standard_error():
    """Of y without spread it is that of x alone, sqrt((n - 1) s_w^2 / (h (h - 1))), as in scipy's trimmed t test."""
    x = np.random.default_rng(3).normal(size=60)
    found = sequences.iqm_difference(x, np.zeros(60), ERROR)
    assert found.estimate[-1] == pytest.approx(stats.trim_mean(x, 0.25))
    test = stats.ttest_ind(x, np.random.default_rng(4).normal(size=10**6) * 1e-9, trim=0.25, equal_var=False)
    standard_error = stats.trim_mean(x, 0.25) / test.statistic
    half = (found.high - found.low)[-1] / 2
    assert half == pytest.approx(standard_error * math.sqrt(60) * sequences.margin(60, ERROR), rel=1e-6)


SCORES = {
    "normal": (lambda r, shape: np.clip(r.normal(0.5, 0.12, shape), 0, 1), 0.5),
    "skewed": (lambda r, shape: r.beta(6, 1, shape), 6 / 7),
    "two kinds": (lambda r, shape: np.where(r.uniform(size=shape) < 0.2, r.uniform(0, 0.2, shape), 0.95), 0.78),
    "coins": (lambda r, shape: (r.uniform(size=shape) < 0.5).astype(float), 0.5),
}


def missed(sequence, true):
    """The share of sequences that lose the true value at some number of seeds, and its standard error."""
    share = ((sequence.low > true) | (sequence.high < true)).any(axis=-1).mean()
    return share, math.sqrt(ERROR * (1 - ERROR) / REPEATS)


@pytest.mark.parametrize("scores", SCORES)
def test_betting_holds_the_mean_at_all_numbers_of_seeds_together(scores):
    draw, true = SCORES[scores]
    values = draw(np.random.default_rng(5), (REPEATS, 200))
    share, error = missed(sequences.betting(values, 0, 1, ERROR, GRID), true)
    assert share < ERROR + 3 * error


@pytest.mark.parametrize("scores", SCORES)
def test_an_asymptotic_sequence_holds_the_mean_from_its_start_on(scores):
    draw, true = SCORES[scores]
    values = draw(np.random.default_rng(6), (REPEATS, 400))
    share, error = missed(sequences.asymptotic(values, ERROR), true)
    assert share < ERROR + 3 * error


def test_an_asymptotic_sequence_that_begins_too_early_misses_more_often():
    draw, true = SCORES["skewed"]
    values = draw(np.random.default_rng(7), (REPEATS, 100))
    early, error = missed(sequences.asymptotic(values, ERROR, start=4), true)
    assert early > ERROR + 3 * error


@pytest.mark.parametrize("scores", ["normal", "skewed"])
def test_the_sequence_of_iqms_holds_their_difference(scores):
    draw, _ = SCORES[scores]
    r = np.random.default_rng(8)
    x, y = (draw(r, (REPEATS, 200)) for _ in range(2))
    shared = 0.3 * r.normal(size=x.shape)  # of a seed: pairs are not independent
    share, error = missed(sequences.iqm_difference(x + shared, y + shared, ERROR), 0.0)
    assert share < ERROR + 3 * error


def test_a_t_test_at_every_number_of_seeds_errs_far_more_often():
    values = np.random.default_rng(9).normal(size=(REPEATS, 200))
    count = np.arange(1, 201)
    mean = np.cumsum(values, axis=1) / count
    spread = np.sqrt((np.cumsum(values**2, axis=1) - count * mean**2)[:, 7:] / (count - 1)[7:])
    edge = stats.t.ppf(1 - ERROR / 2, count[7:] - 1)
    assert (np.abs(mean[:, 7:]) > edge * spread / np.sqrt(count[7:])).any(axis=1).mean() > 3 * ERROR


def test_equal_scores_have_no_asymptotic_interval_and_a_betting_one_that_shrinks():
    values = np.full(64, 0.1)
    assert np.isinf(sequences.asymptotic(values).high).all()
    assert np.isinf(sequences.iqm_difference(values, values).high).all()
    found = sequences.betting(values, 0, 1)
    assert found.low[-1] <= 0.1 <= found.high[-1] and found.high[-1] - found.low[-1] < 0.5
    assert (np.diff(found.low) >= 0).all() and (np.diff(found.high) <= 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sequences.betting(np.array([0.1, 1.2]), 0, 1), "1.2 lies outside of the bounds 0 to 1"),
        (lambda: sequences.betting(np.array([0.1]), 1, 0), "the lower first, got 1 and 0"),
        (lambda: sequences.betting(np.array([np.nan]), 0, 1), "one finite number or more"),
        (lambda: sequences.asymptotic(np.empty(0)), r"one finite number or more for each run, got shape \(0,\)"),
        (lambda: sequences.asymptotic(np.ones(3), error=1.0), "error must lie between 0 and 1, got 1"),
        (lambda: sequences.iqm_difference(np.ones(3), np.ones(4)), r"pairs, got shapes \(3,\) and \(4,\)"),
    ],
)
def test_bad_input_is_one_line(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_equal_scores_of_two_arms_have_no_interval():
    """Their means are off by rounding, which is no spread."""
    for value in np.arange(1, 101) / 100:
        found = sequences.iqm_difference(np.full(60, value), np.full(60, 0.3))
        assert np.all(np.isinf(found.low)) and np.all(np.isinf(found.high))

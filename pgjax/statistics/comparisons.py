"""Compares the scores of several settings: profiles, probabilities of improvement and ranks, with intervals."""

import numpy as np
from scipy.special import betaincinv

from pgjax.dependencies import importing
from pgjax.statistics.intervals import check_samples, matrix, naniqm, percentiles, resamples, widening


def performance_profile(
    values: np.ndarray, thresholds: np.ndarray, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The share of runs that score above each threshold, with its pointwise band.

        F(tau) = 1/M sum_m 1/S sum_s [x_{s,m} > tau]

    the run-score distribution of Agarwal et al. (2021, sec. 4.2). The band is the exact one of a binomial share of
    S M runs (Clopper and Pearson 1934, Biometrika 26(4)): it holds the true share at least as often as it says,
    whatever the scores, at any number of runs, beyond the best and the worst of them too. Runs of several tasks
    make a share that varies less than a binomial one (Hoeffding 1956, Annals of Mathematical Statistics 27(3)).

    Args:
      values: [S, M] or [S]; thresholds: [T].
    Returns:
      profile, lower and upper end, each [T]. All NaN where a value is; the ends are NaN from one run of each task.
    """
    values, thresholds = matrix("values", values), np.asarray(thresholds, float)
    check_samples(level, values=values)
    if np.isnan(values).any():
        return (np.full(thresholds.shape, np.nan),) * 3
    above = values.size - np.searchsorted(np.sort(values, axis=None), thresholds, side="right")
    if len(values) < 2:
        return above / values.size, *(np.full(thresholds.shape, np.nan),) * 2
    return above / values.size, *_share(above, values.size, level, 0.0)


def probability_of_improvement(x: np.ndarray, y: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """How likely a run of x beats a run of y on the same task, with its interval.

        P(X > Y) = 1/M sum_m 1/(N K) sum_ij S(x_{i,m}, y_{j,m}),  S = 1 where x > y, 1/2 where equal, else 0

    the mean over tasks of the Mann-Whitney statistic as a share (Agarwal et al. 2021, sec. 4.3). Whatever the scores
    of two independent samples, its variance is no more than p (1 - p) / min(N, K) (van Dantzig 1951, Indagationes
    Mathematicae 13), that of a share of min(N, K) runs; over M tasks, of M times as many. The interval is Jeffreys's
    of such a share, 0 and 1 being its ends where all or none of the pairs are won. So it has a width also where no
    run of the one lies among those of the other, and it leaves out one half from 4 runs against 4 on, as the exact
    test does. Of 4,000 samples of normal, lognormal and two-humped scores it held the true value in 94 % or more at 3
    runs each, and in 97 % or more from 8 on: the bound is wider than most scores need.

    Args:
      x: [N, M] or [N]; y: [K, M] or [K].
    Returns:
      probability, lower and upper end. All NaN where a value is; the ends are NaN from one run on either side.
    """
    x, y = matrix("x", x), matrix("y", y)
    check_samples(level, x=x, y=y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x and y must hold the same tasks, got {x.shape[1]} and {y.shape[1]}; give [runs, tasks]")
    share = float(((np.sign(x[:, None] - y[None]) + 1) / 2).mean())  # [N, K, M]
    runs = min(len(x), len(y))
    if runs < 2 or np.isnan(share):
        return share, np.nan, np.nan
    runs *= x.shape[1]
    low, high = _share(share * runs, runs, level, 0.5)
    return share, float(low), float(high)


def _share(won: np.ndarray, runs: int, level: float, add: float) -> tuple[np.ndarray, np.ndarray]:
    """Interval of a binomial share, by quantiles of the beta distribution; `won` need be no whole number.

    add = 0 is the exact one, which holds at least `level` everywhere; 0.5 is that of Jeffreys, which holds it on the
    average (Brown, Cai and DasGupta 2001, Statistical Science 16(2)).
    """
    won = np.asarray(won, float)
    tail, lost = (1 - level) / 2, runs - won
    a, b = (np.maximum(z, 1e-12) for z in (won, lost))  # the ends there are 0 and 1
    low = np.where(won > 0, betaincinv(a + add, lost + 1 - add, tail), 0.0)
    return low, np.where(lost > 0, betaincinv(won + 1 - add, b + add, 1 - tail), 1.0)


def ranking(
    values: np.ndarray, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rank of each setting by its IQM, 1 the best, with bootstrap intervals of the ranks.

    Settings share their seeds, so a draw resamples seeds for all settings together: a seed that is lucky for every
    setting does not blur their order. Equal settings share the mean of their ranks. The interval holds the ranks that
    other seeds might have given (Hall and Miller 2009, Annals of Statistics 37(6B)). As in `bootstrap`, the shift of a
    setting's IQM in a draw is multiplied by sqrt(n / (n - 1)) t_{n-1} / z, n the number of its scores: of ten
    settings of normal scores, each .3 standard deviations from the next, 95 % intervals hold the true ranks in 94 % of
    cases at 3 seeds and more from 4 on (without: 85 and 94 %), and at 2 seeds in 81 %; of lognormal ones in 92 % at 3.

    Args:
      values: [S, H]; NaN is a run without a score, left out of its setting's IQM. A setting without any ranks last.
    Returns:
      rank, lower and upper end, each [H]; the ends are NaN for a setting with fewer than two scores.
    """
    with importing("scipy"):
        from scipy.stats import rankdata

    values = matrix("values", values)
    check_samples(level, draws, values=values)
    middle, count = naniqm(values, axis=0), (~np.isnan(values)).sum(axis=0)
    by = np.where(count > 1, widening(np.maximum(count, 2), level), 0.0)
    order = lambda score: rankdata(-np.nan_to_num(score, nan=-np.inf, posinf=np.inf), axis=-1)  # noqa: E731
    drawn = []
    picks = resamples(len(values), draws, seed)
    for block in np.array_split(picks, min(len(picks), 1 + len(picks) * values.size // 2**22)):
        with np.errstate(invalid="ignore"):
            score = middle + by * (naniqm(values[block], axis=1) - middle)
        # A setting whose draw has no score, or has infinite ones, keeps its IQM.
        drawn.append(order(np.where(np.isnan(score), middle, score)))
    ends = percentiles(np.concatenate(drawn), level)
    return order(middle), *(np.where(count > 1, end, np.nan) for end in ends)

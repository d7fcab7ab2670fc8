"""Scores of runs in; aggregates, their bootstrap intervals, comparisons and ranks out. NumPy, float64.

`S` seeds, `M` tasks, `H` settings; larger scores are better. NaN is a run without a score: a lane that failed
or was stopped. A statistic of one sample is NaN where a score of the sample is, so that the caller must leave
such runs out, and say so. Only `naniqm`, `ranking` and `seeds_needed`, which hold settings side by side on the
same seeds, leave out what is missing themselves, each from its own setting alone.

Agarwal et al. 2021: Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS.
"""

import math
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


def iqm(values: np.ndarray, axis: int | None = -1) -> np.ndarray:
    """Interquartile mean: the mean of the middle half (Agarwal et al. 2021, sec. 4.3), NaN where any value is.

    A quarter of the values, rounded down, is cut off at either end; axis None is over all of them.
    """
    values = np.asarray(values, float)
    return np.where(np.isnan(values).any(axis=axis), np.nan, naniqm(values, axis))


def naniqm(values: np.ndarray, axis: int | None = -1) -> np.ndarray:
    """As `iqm`, of the values that are there; NaN where there is none."""
    values = np.asarray(values, float)
    # A copy that lies along the axis: sorting it is ten times faster than along a strided one.
    values = values.ravel() if axis is None else np.array(np.moveaxis(values, axis, -1), order="C")
    values = np.sort(values, axis=-1)  # NaN comes last
    count = (~np.isnan(values)).sum(axis=-1, keepdims=True)
    cut, place = count // 4, np.arange(values.shape[-1])
    total = np.where((place >= cut) & (place < count - cut), values, 0.0).sum(axis=-1, keepdims=True)
    return np.where(count > 0, total / np.maximum(count - 2 * cut, 1), np.nan)[..., 0]


def bootstrap(
    values: np.ndarray, statistic: Callable = iqm, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of a statistic over seeds, by resampling seeds (Agarwal et al. 2021, sec. 4.1).

    Args:
      values: [S] or [S, ...]; each further axis keeps its own statistic, on the same resampled seeds. Of several
        tasks with seeds of their own, see `stratified`.
      statistic: called as `statistic(resamples [D, S, ...], axis=1)`, returns [D, ...], like np.mean.
    Returns:
      lower and upper end, each [...].
    Raises:
      ValueError: for no values, or a level that is not a share.
    """
    values = np.asarray(values, float)
    _check(level, draws, values=values)
    picks = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    blocks = np.array_split(picks, min(draws, 1 + draws * values.size // 2**22))  # tens of megabytes at a time
    return _interval(np.concatenate([statistic(values[block], axis=1) for block in blocks]), level)


def stratified(
    values: np.ndarray, statistic: Callable = iqm, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of a statistic over runs of several tasks, by stratified bootstrap.

    Each task's runs are resampled apart from the other tasks', so that every resample has as many runs of a task
    as there were (Agarwal et al. 2021, sec. 4.1). The interval is about other seeds on these tasks, not other tasks.

    Args:
      values: [S, M]: run s of task m; [S] is one task.
      statistic: called as `statistic(resample [S, M], axis=None)`; what it returns may have any shape [...].
    Returns:
      lower and upper end, each [...].
    Raises:
      ValueError: for no values, more than two axes, or a level that is not a share.
    """
    values = _matrix("values", values)
    _check(level, draws, values=values)
    generator, (runs, tasks) = np.random.default_rng(seed), values.shape
    picks = (generator.integers(0, runs, (runs, tasks)) for _ in range(draws))
    return _interval(np.stack([statistic(values[pick, np.arange(tasks)], axis=None) for pick in picks]), level)


def optimality_gap(values: np.ndarray, target: float, axis: int | None = None) -> np.ndarray:
    """By how much runs miss a target: `target - mean min(x, target)` (Agarwal et al. 2021, sec. 4.3).

    What a run has above the target makes up for nothing. The interval is that of
    `stratified(values, functools.partial(optimality_gap, target=target))`.
    `values` is [S] or [S, M]; axis None is over all runs of all tasks.
    """
    return target - np.minimum(np.asarray(values, float), target).mean(axis=axis)


def performance_profile(
    values: np.ndarray, thresholds: np.ndarray, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The share of runs that score above each threshold, with its pointwise band.

        F(tau) = 1/M sum_m 1/S sum_s [x_{s,m} > tau]

    the run-score distribution of Agarwal et al. (2021, sec. 4.2).

    Args:
      values: [S, M] or [S]; thresholds: [T].
    Returns:
      profile, lower and upper end of its stratified bootstrap interval, each [T]. All NaN where a value is.
    """
    values, thresholds = _matrix("values", values), np.asarray(thresholds, float)

    def above(x, axis):
        below = np.searchsorted(np.sort(x, axis=axis), thresholds, side="right") / x.size
        return np.where(np.isnan(x).any(), np.nan, 1 - below)

    return above(values, None), *stratified(values, above, level, draws, seed)


def probability_of_improvement(
    x: np.ndarray, y: np.ndarray, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """How likely a run of x beats a run of y on the same task, with its interval.

        P(X > Y) = 1/M sum_m 1/(N K) sum_ij S(x_{i,m}, y_{j,m}),  S = 1 where x > y, 1/2 where equal, else 0

    the mean over tasks of the Mann-Whitney statistic as a share (Agarwal et al. 2021, sec. 4.3). Every run of x
    meets every run of y, so x and y are resampled independently, stratified by task. Where no run of the one lies
    among those of the other, the interval has no width: more seeds than a few are needed to trust it.

    Args:
      x: [N, M] or [N]; y: [K, M] or [K].
    Returns:
      probability, lower and upper end. All NaN where a value is.
    """
    x, y = _matrix("x", x), _matrix("y", y)
    _check(level, draws, x=x, y=y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x and y must hold the same tasks, got {x.shape[1]} and {y.shape[1]}; give [runs, tasks]")
    beats = (np.sign(x[:, None] - y[None]) + 1) / 2  # [N, K, M]
    generator, task = np.random.default_rng(seed), np.arange(x.shape[1])
    pick = lambda z: generator.integers(0, len(z), z.shape)  # noqa: E731
    drawn = [beats[pick(x)[:, None], pick(y)[None], task].mean() for _ in range(draws)]
    low, high = _interval(np.array(drawn), level)
    return float(beats.mean()), float(low), float(high)


def ranking(
    values: np.ndarray, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rank of each setting by its IQM, 1 the best, with bootstrap intervals of the ranks.

    Settings share their seeds, so a draw resamples seeds for all settings together: what a lucky seed gives to
    every setting does not blur their order. Equal settings share the mean of their ranks. The interval says which
    ranks other seeds might have given (Hall and Miller 2009, Annals of Statistics 37(6B)).

    Args:
      values: [S, H]; NaN is a run without a score, left out of its setting's IQM. A setting without any ranks last.
    Returns:
      rank, lower and upper end, each [H].
    """
    values = _matrix("values", values)
    _check(level, draws, values=values)
    picks = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    low, high = _interval(np.stack([_ranks(values[pick]) for pick in picks]), level)
    return _ranks(values), low, high


def _ranks(values: np.ndarray) -> np.ndarray:
    score = np.nan_to_num(naniqm(values, axis=0), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    ordered = np.sort(score)
    # With b settings below and e equal (itself one of them): ranks H - b - e + 1 to H - b, whose mean is
    return len(score) + 0.5 - (np.searchsorted(ordered, score, "left") + np.searchsorted(ordered, score, "right")) / 2


class SeedsNeeded(NamedTuple):
    """How many seeds each of two settings needs, and of which test: 'paired' or 'unpaired'."""

    seeds: float
    design: str


def seeds_needed(
    x: np.ndarray, y: np.ndarray, power: float = 0.8, level: float = 0.05, common: bool = True
) -> SeedsNeeded:
    """How many seeds each tell the means of two settings apart, were the observed means and variances the true ones.

    For a two-sided t test, by the normal approximation and its correction for t of Guenther (1981, The American
    Statistician 35(4)), with z_a and z_b the normal quantiles of 1 - level/2 and power, d the difference of means:

        paired    n = (z_a + z_b)^2 var(x - y) / d^2            + z_a^2 / 2
        unpaired  n = (z_a + z_b)^2 (var(x) + var(y)) / d^2     + z_a^2 / 4

    rounded up, 2 or more. See Colas et al. (2018), How Many Random Seeds?, who plan with Welch's test.

    Args:
      x, y: [S]; where `common`, x[i] and y[i] are of the same seed: the better of both tests is returned.
        Pairs without one of the scores (NaN) are left out of the paired test.
      power: the chance to find the difference; level: the chance to find one that is not there.
    Returns:
      seeds (inf where the means are equal) and the test. It is no surer than the variances that few seeds give.
    Raises:
      ValueError: for fewer than 2 scores of a setting, which have no variance.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    for name, share in (("power", power), ("level", level)):
        if not 0 < share < 1:
            raise ValueError(f"{name} must lie between 0 and 1, got {share}")
    if common and x.shape != y.shape:
        raise ValueError(f"common seeds need x and y of one length, got {len(x)} and {len(y)}; or give common=False")
    alone = [z[~np.isnan(z)] for z in (x, y)]
    if min(map(len, alone)) < 2:
        raise ValueError(f"x and y need 2 scores or more each, got {len(alone[0])} and {len(alone[1])}")
    normal = statistics.NormalDist().inv_cdf
    a, b = normal(1 - level / 2), normal(power)

    def test(design, difference, variance, correction):
        # Means of the same numbers in another order differ in the last digits.
        if abs(difference) <= 1e-12 * max(np.abs(z).max() for z in alone):
            return SeedsNeeded(math.inf, design)
        exact = (a + b) ** 2 * variance / difference**2 + correction
        return SeedsNeeded(float(max(2, math.ceil(exact))), design)

    unpaired = test("unpaired", alone[0].mean() - alone[1].mean(), sum(z.var(ddof=1) for z in alone), a**2 / 4)
    pairs = (x - y)[~np.isnan(x - y)] if common else []
    if len(pairs) < 2:
        return unpaired
    return min(test("paired", pairs.mean(), pairs.var(ddof=1), a**2 / 2), unpaired, key=lambda row: row.seeds)


def _matrix(name: str, values: Any) -> np.ndarray:
    values = np.asarray(values, float)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2:
        raise ValueError(f"{name} must be [runs] or [runs, tasks], got shape {values.shape}")
    return values


def _check(level: float, draws: int, **samples: np.ndarray) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    if draws < 1:
        raise ValueError(f"draws must be 1 or more, got {draws}")
    for name, values in samples.items():
        if not values.size:
            raise ValueError(f"{name} must hold a run or more, got shape {values.shape}")


def _interval(drawn: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Percentiles [...] of [draws, ...]; NaN where a draw is."""
    tail = 100 * (1 - level) / 2
    with np.errstate(invalid="ignore"):
        return tuple(np.percentile(drawn, [tail, 100 - tail], axis=0))

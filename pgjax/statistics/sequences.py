"""Confidence sequences: intervals for every number of seeds at once, which may be looked at after each.

A sequence of level 1 - error holds the true value at all numbers of seeds together with that probability, so whoever
stops when the interval says what he hoped for errs no more often than whoever never looked (Darling and Robbins 1967).
An interval for one number of seeds, looked at again and again, misses the true value sooner or later. `N` seeds.

`betting` holds its level at every number of seeds, whatever the scores, and needs bounds that no score leaves.
`asymptotic` and `iqm_difference` need none: they hold it in the limit, and begin at START seeds. The package of the
methods' authors, confseq 0.0.11, needs NumPy 1 and, having no wheels, Boost's headers to be built.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import lambertw

START = 48  # seeds before which an asymptotic sequence says nothing
TUNED = 64  # seeds at which asymptotic sequences are narrowest
STEPS = 4096  # of the grid of means, from bound to bound


class Sequence(NamedTuple):
    """The estimate and the ends of its interval after each number of seeds, [..., N]."""

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray


def betting(values: np.ndarray, low: float, high: float, error: float = 0.05, steps: int = STEPS) -> Sequence:
    """The mean of scores within [low, high], by hedged capital (Waudby-Smith and Ramdas 2024, JRSS-B 86(1), sec. 4.2).

    A gambler who bets on the scores x, scaled to [0, 1], being above m, and one who bets on their being below it, have

        K+_t(m) = prod_i [1 + l+_i (x_i - m)],      K-_t(m) = prod_i [1 - l-_i (x_i - m)]
        l+_i = min(l_i, 1 / 2m),  l-_i = min(l_i, 1 / 2(1 - m)),  l_i = sqrt(2 log(2 / error) / (v_{i-1} i log(i + 1)))
        v_i = (1/4 + sum_{j<=i} (x_j - a_j)^2) / (i + 1),  a_i = (1/2 + sum_{j<=i} x_j) / (i + 1)

    Were m the mean, either would ever reach 2 / error with a probability of no more than error / 2 (Ville 1939). The
    interval has every m at which both have stayed below. K+ falls with m, and K-(m; x) = K+(1 - m; 1 - x).

    The ends lie on a grid of `steps` steps from bound to bound, rounded outwards. With a probability of no more than
    `error` they cross.

    Args:
      values: [..., N].
    Raises:
      ValueError: for a value that is no number, or outside of the bounds.
    """
    values = np.asarray(values, float)
    _check(error, values)
    if not -np.inf < low < high < np.inf:
        raise ValueError(f"bounds must be two finite numbers, the lower first, got {low:g} and {high:g}")
    if outside := values[~((low <= values) & (values <= high))].tolist():
        raise ValueError(f"a value of {outside[0]:g} lies outside of the bounds {low:g} to {high:g}; give wider ones")
    x = (values - low) / (high - low)
    count = np.arange(1, x.shape[-1] + 1)
    mean = (0.5 + np.cumsum(x, axis=-1)) / (count + 1)
    spread = (0.25 + np.cumsum((x - mean) ** 2, axis=-1)) / (count + 1)
    before = np.concatenate([np.full((*x.shape[:-1], 1), 0.25), spread[..., :-1]], axis=-1)
    bets = np.sqrt(2 * np.log(2 / error) / (before * count * np.log(count + 1)))
    below, above = (_beaten(z, bets, error, steps) for z in (x, 1 - x))
    scale = lambda share: low + share * (high - low)  # noqa: E731
    return Sequence(scale(np.cumsum(x, axis=-1) / count), scale(below), scale(1 - above))


def _beaten(x: np.ndarray, bets: np.ndarray, error: float, steps: int) -> np.ndarray:
    """[..., N]: the largest m of the grid that K+ has refuted so far, or 0."""
    m = np.linspace(0, 1, steps + 1)
    with np.errstate(divide="ignore"):
        most = 0.5 / m
    capital, found, best = np.zeros((*x.shape[:-1], steps + 1)), np.empty(x.shape), np.zeros(x.shape[:-1], int)
    for t in range(x.shape[-1]):
        capital += np.log1p(np.minimum(bets[..., t, None], most) * (x[..., t, None] - m))
        best = np.maximum(best, (capital >= np.log(2 / error)).sum(axis=-1) - 1)  # falling in m: the first are refuted
        found[..., t] = m[best]
    return found


def asymptotic(values: np.ndarray, error: float = 0.05, start: int = START, tuned: int = TUNED) -> Sequence:
    """The mean of scores of finite variance: Waudby-Smith et al. 2024, Annals of Statistics 52(6), Theorem 2.2.

        mean_t -+ s_t sqrt(2 (t r^2 + 1) / (t^2 r^2) log(sqrt(t r^2 + 1) / error))

    s_t the standard deviation of the first t. r^2 = (-1 - W(-error^2 / e)) / tuned, W the lower branch of Lambert's
    function, makes it narrowest at `tuned` seeds (their appendix B.2). The level is that of the limit in which `start`
    grows; before `start`, and where all scores are equal, the interval has no ends.

    Of 1,000 sequences of 300 scores at error .05 it lost the mean in .01 (normal), .03 (coins), .05 (beta 6, 1) and
    .05 (a fifth of them near 0, the others equal); begun at 16 seeds in .03, .06, .08 and .12. Of differences of two
    such scores, which lean to neither side, in .02 and, begun at 16, in .05 or less. Longer tails on one side take more
    seeds: give bounds, and use `betting`.

    Args:
      values: [..., N].
    Raises:
      ValueError: for a value that is not finite.
    """
    values = np.asarray(values, float)
    _check(error, values)
    count = np.arange(1, values.shape[-1] + 1)
    centred = values - values[..., :1]  # equal scores have no variance, exactly
    mean = np.cumsum(centred, axis=-1) / count
    squares = np.cumsum(centred**2, axis=-1) - count * mean**2
    spread = np.sqrt(np.maximum(squares, 0) / np.maximum(count - 1, 1))
    spread[squares <= 1e-12 * np.cumsum(centred**2, axis=-1)] = 0
    return _around(values[..., :1] + mean, spread, error, start, tuned)


def iqm_difference(
    x: np.ndarray, y: np.ndarray, error: float = 0.05, start: int = START, tuned: int = TUNED
) -> Sequence:
    """The IQM of x less that of y, whose i-th scores are of the same seed: `asymptotic`, of influences.

    The IQM of n scores is their mean trimmed by c = floor(n / 4) at either end, and, but for what vanishes faster,
    the mean of the influences (w_i - mean w) n / (n - 2 c), w the scores winsorised at the c-th (Huber and Ronchetti
    2009, sec. 3.3). The spread is that of the differences of the influences of a pair, with Yuen's correction
    sqrt((n - 1) h / (n (h - 1))), h = n - 2 c (Yuen 1974, Biometrika 61(1)). It needs quartiles that are single
    numbers: no gap in the distribution of scores at a quarter of it (Stigler 1973, Annals of Statistics 1(3)).

    Args:
      x, y: [..., N].
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    _check(error, x, y)
    if x.shape != y.shape:
        raise ValueError(f"x and y must be pairs, got shapes {x.shape} and {y.shape}")
    estimate, spread = np.full(x.shape, np.nan), np.zeros(x.shape)
    for n in range(1, x.shape[-1] + 1):
        (middle, one), (other, two) = (_influences(z[..., :n]) for z in (x, y))
        estimate[..., n - 1] = middle - other
        if n >= start:
            kept = n - 2 * (n // 4)
            spread[..., n - 1] = (one - two).std(axis=-1) * np.sqrt(kept / (kept - 1))
    # The mean of equal scores is off by rounding, and so is the spread around it.
    size = np.maximum(np.abs(x).max(axis=-1, keepdims=True), np.abs(y).max(axis=-1, keepdims=True))
    spread[spread <= 1e-12 * size] = 0
    return _around(estimate, spread, error, start, tuned)


def _influences(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The IQM [...] of x [..., n], and the influence of each score [..., n]."""
    n, cut = x.shape[-1], x.shape[-1] // 4
    ordered = np.sort(x, axis=-1)
    ends = ordered[..., cut, None], ordered[..., n - 1 - cut, None]
    kept = np.clip(x, *ends)
    return ordered[..., cut : n - cut].mean(axis=-1), (kept - kept.mean(axis=-1, keepdims=True)) * n / (n - 2 * cut)


def _around(estimate: np.ndarray, spread: np.ndarray, error: float, start: int, tuned: int) -> Sequence:
    count = np.arange(1, estimate.shape[-1] + 1)
    half = np.where((count >= start) & (spread > 0), spread * margin(count, error, tuned), np.inf)
    return Sequence(estimate, estimate - half, estimate + half)


def margin(count: np.ndarray, error: float, tuned: int = TUNED) -> np.ndarray:
    """Half the width of `asymptotic` after `count` seeds of standard deviation 1."""
    grown = count * (-1 - lambertw(-(error**2) / np.e, -1).real) / tuned
    return np.sqrt(2 * (grown + 1) / (count * grown) * np.log(np.sqrt(grown + 1) / error))


def _check(error: float, *samples: np.ndarray) -> None:
    if not 0 < error < 1:
        raise ValueError(f"error must lie between 0 and 1, got {error:g}")
    for values in samples:
        if not values.shape or not values.shape[-1] or not np.isfinite(values).all():
            raise ValueError(f"scores must be one finite number or more for each run, got shape {values.shape}")

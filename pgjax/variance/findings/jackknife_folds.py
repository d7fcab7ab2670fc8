"""Standard errors, squares without their own noise, and the test of bias, from the means of folds of the sample.

Folds [F, P] are independent and equally large, so products of two of them have no noise that adds up.
"""

import math

import numpy as np
import scipy.special


def of_mean(noise: np.ndarray) -> float:
    """E |mean - truth|^2 from folds centred at their mean, [F, P]."""
    return float(np.sum(noise**2) / (len(noise) * (len(noise) - 1)))


def pairs(gram: np.ndarray) -> float:
    """Mean over pairs of different folds: products of independent errors, so no variance adds to it."""
    n = len(gram)
    return float((gram.sum() - np.trace(gram)) / (n * (n - 1)))


def root(square: float, error: float) -> tuple[float, float]:
    """The root of a square that is known up to a standard error, and its own; the least square is 0."""
    value = math.sqrt(max(square, 0.0))
    return value, error / (2 * value) if square > error else math.sqrt(error)


def jackknife(values: list[float]) -> float:
    """Standard error of a statistic, from its values with one fold left out at a time; NaN where one isn't finite."""
    if not np.isfinite(values).all():
        return math.nan
    return float(np.sqrt((len(values) - 1) * np.var(values)))


def spread(noise: np.ndarray, slope: np.ndarray) -> float:
    """Standard error of slope @ the mean of folds [F, P]; 0 where the slope is unknown."""
    along = noise @ np.where(np.isfinite(slope), slope, 0.0)
    return float(along.std(ddof=1) / math.sqrt(len(along)))


def surprise(off: np.ndarray, noise: np.ndarray | None) -> float:
    """How many standard deviations of a normal the mean's distance from the target is worth, if it were unbiased.

    |mean - target|^2 over what is expected of it is then close to F distributed, with degrees of freedom that
    give the weighted sum of chi-squares its first two moments (Satterthwaite 1946).
    """
    mean, f = off.mean(axis=0), len(off)
    expected = np.sum((off - mean) ** 2) / (f * (f - 1))
    spread, folds = _trace_of_square(off) / f**2, f
    if noise is not None:
        r = len(noise)
        own, cross = np.sum(noise**2) / (r * (r - 1)), ((off - mean) @ noise.T) ** 2
        spread += _trace_of_square(noise) / r**2 + 2 * cross.mean() / (f * r)
        # As many folds as the larger share of the variance has.
        folds = f if expected > own else r
        expected += own
    if expected <= 0:
        return 0.0 if mean @ mean == 0 else math.inf
    # The estimate of tr S^2 may come out as nothing where one fold is far from the rest; it is (tr S)^2 / P or more.
    spread = spread if spread > 0 else expected**2 / len(mean)
    degrees, ratio = expected**2 / spread, mean @ mean / expected
    p = scipy.special.fdtrc(degrees, degrees * (folds - 1), ratio)
    if p > 1e-290:
        return float(-scipy.special.ndtri(p))
    # Beyond the range of p, by the leading terms of both tails.
    x = ratio * degrees
    return math.sqrt(max(2 * (x / 2 + math.lgamma(degrees / 2) - (degrees / 2 - 1) * math.log(x / 2)), 0.0))


def _trace_of_square(x: np.ndarray) -> float:
    """tr S^2 of the covariance S of folds [F, P], pairs centred at the mean of the rest (Chen & Qin 2010, eq. 3)."""
    f = len(x)
    x = x - x.mean(axis=0)  # a bias, however large, is no part of it
    gram = x @ x.T
    # (x_i - m)' x_j, where m = -(x_i + x_j) / (F - 2) is the mean of the rest.
    left = gram + (gram + np.diag(gram)[None]) / (f - 2)
    products = left * left.T
    return max(float((products.sum() - np.trace(products)) / (f * (f - 1))), 0.0)

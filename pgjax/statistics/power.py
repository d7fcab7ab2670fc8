"""Computes the number of seeds needed to distinguish two settings."""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import nctdtr, ndtri, stdtrit


class SeedsNeeded(NamedTuple):
    """The number of seeds that each of two settings needs, and the test: 'paired' or 'unpaired'."""

    seeds: float
    design: str


def seeds_needed(
    x: np.ndarray, y: np.ndarray, power: float = 0.8, level: float = 0.05, common: bool = True
) -> SeedsNeeded:
    """The number of seeds of each setting needed to distinguish their means, if the observed moments are the true ones.

    It is the least n of 2 or more at which a two-sided t test finds the difference d of means with probability `power`,
    by the noncentral t distribution:

        paired    d sqrt(n) / sd(x - y),              n - 1 degrees of freedom
        unpaired  d sqrt(n / (var(x) + var(y))),      (n - 1) (var(x) + var(y))^2 / (var(x)^2 + var(y)^2)

    the second being Welch's test, as Colas et al. (2018), How Many Random Seeds?, plan it.

    Args:
      x, y: [S]; where `common`, x[i] and y[i] are of the same seed: the better of both tests is returned.
        Pairs without one of the scores (not finite) are left out of the paired test.
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
    alone = [z[np.isfinite(z)] for z in (x, y)]
    if min(map(len, alone)) < 2:
        raise ValueError(f"x and y need 2 scores or more each, got {len(alone[0])} and {len(alone[1])}")

    # Squares of very large and of very small numbers would overflow and underflow.
    largest = max(np.abs(z).max() for z in alone) or 1.0
    x, y, alone = x / largest, y / largest, [z / largest for z in alone]

    def test(design, gap, variances):
        # Means of the same numbers in another order differ in the last digits.
        if abs(gap) <= 1e-12:
            return SeedsNeeded(math.inf, design)
        return SeedsNeeded(float(_least(abs(gap), variances, power, level)), design)

    unpaired = test("unpaired", alone[0].mean() - alone[1].mean(), [z.var(ddof=1) for z in alone])
    pairs = (x - y)[np.isfinite(x) & np.isfinite(y)] if common else np.empty(0)
    if len(pairs) < 2:
        return unpaired
    return min(test("paired", pairs.mean(), [pairs.var(ddof=1)]), unpaired, key=lambda row: row.seeds)


def _least(gap: float, variances: list[float], power: float, level: float) -> int:
    """The least number of seeds of each sample whose t test has the power."""
    total = sum(variances)
    if total <= 0:
        return 2
    share = 1 / sum((v / total) ** 2 for v in variances)  # degrees of freedom of each further seed: 1 to 2

    def reached(n):
        free, centre = (n - 1) * share, gap * math.sqrt(n / total)
        edge = stdtrit(free, 1 - level / 2)
        # scipy gives NaN where a tail is nothing.
        return 1 - np.nan_to_num(nctdtr(free, centre, edge)) + np.nan_to_num(nctdtr(free, centre, -edge)) >= power

    # By the normal approximation, which is never too many, and below which only few are tried.
    normal = (ndtri(1 - level / 2) + ndtri(power)) ** 2 * total / gap**2
    n = max(2, math.floor(normal))
    if n > 1000:  # there t is normal but for Guenther's correction (1981, The American Statistician 35(4))
        return math.ceil(normal + ndtri(1 - level / 2) ** 2 / (2 * share))
    while not reached(n):
        n += 1
    return n

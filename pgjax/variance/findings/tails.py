"""The length of the tail of independent positive numbers, and intervals of their mean that allow for it.

The largest M of N numbers, less the largest that is no longer one of them, are taken for draws from a generalised
Pareto distribution of shape k (Pickands 1975). A moment of order 1 / k or more is infinite: from k = .5 on the variance
of the numbers, from k = 1 on their mean. NumPy, float64, and no device.
"""

import math

import numpy as np
import scipy.special

LEAST = 5  # numbers in the tail, below which no shape is fitted
LARGEST = 0.95  # shape that an interval of a mean, which must exist, allows for
PRIOR = 0.5, 0.47  # centre and spread of the shape: ten observations of k = .5 have the spread (1 + k) / sqrt(10)


def pareto_k(values: np.ndarray) -> float:
    """The shape k of the upper tail of positive numbers [N], by Zhang & Stephens (2009).

    The tail is as long as in Pareto smoothed importance sampling, M = min(3 sqrt(N), N / 5) (Vehtari et al.
    2024). Its standard error is about (1 + k) / sqrt(M).

    Returns:
      -inf where nothing stands out of the rest (all equal, or a bound that is reached often); inf where fewer numbers
      than a fit takes do, and these are a tenth of the sum of squares or more; NaN for fewer than 25 numbers, or
      where one is not finite.
    """
    values = np.sort(np.asarray(values, np.float64))
    size = _size(len(values))
    if size < LEAST or not np.isfinite(values).all():
        return math.nan
    threshold = values[-size - 1]
    above = values[-size:] - threshold
    above = above[above > 1e-6 * values[-1]]  # numbers closer than float32 distinguishes are equal
    if len(above) < LEAST:
        share = np.sum(values[len(values) - len(above) :] ** 2) / max(np.sum(values**2), 1e-300)
        return math.inf if share > 0.1 else -math.inf
    m = len(above)
    points = 30 + int(math.sqrt(m))
    place = np.arange(1, points + 1) - 0.5
    quartile = above[int(m / 4 + 0.5) - 1]
    theta = 1 / above[-1] + (1 - np.sqrt(points / place)) / (3 * quartile)
    shape = np.mean(np.log1p(-theta[:, None] * above[None]), axis=1)
    # At theta = 0 the tail is exponential, and -theta / shape has the limit 1 / mean.
    rate = np.where(theta == 0, 1 / np.mean(above), -theta / np.where(theta == 0, 1.0, shape))
    likelihood = m * (np.log(rate) - shape - 1)
    weight = np.exp(likelihood - likelihood.max())
    return float(np.mean(np.log1p(-np.sum(theta * weight) / np.sum(weight) * above)))


def limit(count: int) -> float:
    """The k beyond which a mean of `count` numbers, and its error, can't be trusted: min(1 - 1 / log10 N, .7).

    That is where the numbers that a mean needs are more than there are (Vehtari et al. 2024).
    """
    return min(1 - 1 / math.log10(count), 0.7) if count > 1 else -math.inf


def mean_interval(values: np.ndarray, level: float = 0.95, draws: int = 4000) -> tuple[float, float]:
    """An interval of the mean of positive independent numbers [N] whose tail may be long.

    The mean is that of the bulk, normal, and of the generalised Pareto tail, u + sigma / (1 - k), whose shape and scale
    have the posterior of the excesses under the prior of Vehtari et al. (2024), a normal around k = .5 that weighs as
    ten observations: so a sample that happens to lack the largest numbers still has an interval that reaches them.
    It is no narrower than mean +- 1.96 standard errors (mean / exp(1.96 se / mean) at the lower end), which
    covers 80 % where this one covers 95 (benchmarks/coverage_laboratory.py); the two agree where the tail is short.

    Returns:
      the two ends; NaN for fewer than 25 numbers, or where one is not finite.
    """
    values = np.sort(np.asarray(values, np.float64))
    count, size = len(values), _size(len(values))
    if size < LEAST or not np.isfinite(values).all():
        return math.nan, math.nan
    generator = np.random.default_rng(0)
    bulk, tail, threshold = values[:-size], values[-size:], values[-size - 1]
    share = generator.beta(size, count - size, draws)
    centre = bulk.mean() + bulk.std() / math.sqrt(len(bulk)) * generator.standard_normal(draws)
    excess = tail - threshold
    if excess[-1] > 1e-6 * values[-1]:
        shape, scale = _posterior(excess, draws, generator)
        top = threshold + scale / (1 - shape)
    else:
        top = tail.mean()
    low, high = np.quantile(share * top + (1 - share) * centre, [(1 - level) / 2, (1 + level) / 2])
    mean, error = values.mean(), scipy.special.ndtri((1 + level) / 2) * values.std(ddof=1) / math.sqrt(count)
    return float(min(low, mean * math.exp(-error / max(mean, 1e-300)))), float(max(high, mean + error))


def variance_interval(squares: np.ndarray, trace: float, bias2: float, se: float, count: int) -> tuple[float, float]:
    """The 95 % interval of the trace of one estimate's covariance, from the distances [2, N] of `measure.squares`.

    It uses the distances from the target, unless a bias would make these larger than the spread of the estimates.
    """
    values = squares[0 if bias2 < 0.05 * trace else 1].astype(np.float64)
    low, high = (end - values.mean() + trace for end in mean_interval(values))
    if math.isnan(low):
        aside = se * scipy.special.stdtrit(count - 1, 0.975)
        low, high = trace - aside, trace + aside
    return max(low, 0.0), high


def scaled(
    ends: tuple[float, float], trace: float, value: float, se: float, trace_se: float
) -> tuple[float, float] | None:
    """The interval of value = trace x factor, from that of the trace and the factor's part of the relative error."""
    if not (ends[0] > 0 and value > 0 and math.isfinite(value) and math.isfinite(se)):
        return None
    rest = 2 * math.sqrt(max((se / value) ** 2 - (trace_se / trace) ** 2, 0.0))
    down, up = (math.hypot(math.log(trace / end), rest) for end in ends)
    return value * math.exp(-down), value * math.exp(up)


def _size(count: int) -> int:
    return min(math.ceil(3 * math.sqrt(count)), count // 5)


def _posterior(excess: np.ndarray, draws: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws of shape and scale, from a grid: flat in the logarithm of the scale, PRIOR in the shape."""
    k = np.linspace(-0.5, LARGEST, 41)[:, None]  # no point is 0, where the density is another formula
    k = np.where(np.abs(k) < 1e-6, 1e-6, k)
    # Around the scale that has the mean of the excesses.
    scale = excess.mean() * np.maximum(1 - k, 0.15) * np.exp(np.linspace(-1.2, 1.2, 41))[None]
    total = np.empty_like(scale)
    for i, row in enumerate(scale):
        inside = 1 + k[i] * excess[None] / row[:, None]
        total[i] = np.where((inside > 0).all(axis=1), np.log(np.maximum(inside, 1e-300)).sum(axis=1), np.nan)
    found = -len(excess) * np.log(scale) - (1 + 1 / k) * total - 0.5 * ((k - PRIOR[0]) / PRIOR[1]) ** 2
    found = np.where(np.isnan(found), -np.inf, found)
    weight = np.exp(found - found.max()).ravel()
    chosen = generator.choice(weight.size, draws, p=weight / weight.sum())
    return np.broadcast_to(k, scale.shape).ravel()[chosen], scale.ravel()[chosen]

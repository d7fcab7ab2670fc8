"""How often 95 % intervals hold the true value: simulated seeds, for each number of them and each shape of scores.

    python benchmarks/coverage.py                      writes results/coverage.md
    python benchmarks/coverage.py --repeats 200        a quick look

A right interval holds it in 95 % of repeats; the error of the shares themselves is stated. Beside pgjax's intervals
stand the methods that were measured and not chosen.
"""

import argparse
import pathlib
import platform
import sys
import time
from collections.abc import Callable

import numpy as np
from scipy import special

from pgjax import statistics

SEEDS = (2, 3, 4, 5, 8, 10, 16, 32, 64)
STATISTICS = {"IQM": statistics.iqm, "mean": np.mean, "median": np.median}
DRAWS = 1000


def _two_humps(u: np.ndarray) -> np.ndarray:
    """Half of the seeds fail, N(20, 5^2), and half learn, N(200, 20^2)."""
    x = np.linspace(-20, 300, 20_001)
    return np.interp(u, (special.ndtr((x - 20) / 5) + special.ndtr((x - 200) / 20)) / 2, x)


# Quantile functions of the scores.
SCORES: dict[str, Callable] = {
    "normal": special.ndtri,
    "lognormal": lambda u: np.exp(special.ndtri(u)),
    "arcsine": lambda u: special.betaincinv(0.5, 0.5, u),
    "clipped": lambda u: np.minimum(500, 450 + 80 * special.ndtri(u)),  # 27 % have the maximal return
    "two humps": _two_humps,
}


def truth(scores: str) -> dict[str, float]:
    """The statistics of all seeds there might be, from the quantile function."""
    u = (np.arange(1_000_000) + 0.5) / 1_000_000
    x = SCORES[scores](u)
    return {"IQM": x[250_000:750_000].mean(), "mean": x.mean(), "median": np.median(x)}


def sample(scores: str, seeds: int, repeats: int, seed: int = 0) -> np.ndarray:
    """[S, R] scores of seeds."""
    return SCORES[scores](np.random.default_rng([seed, seeds]).random((seeds, repeats)))


def held(low: np.ndarray, high: np.ndarray, true: float) -> float:
    return float(np.mean((low <= true) & (true <= high)))


# The others, all of the IQM, on values [S, R].


def percentile(values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Agarwal et al. (2021): percentiles of the resamples as they are."""
    drawn = _drawn(values)
    return tuple(np.percentile(drawn, [2.5, 97.5], axis=0))


def bca(values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Efron (1987): bias-corrected and accelerated percentiles."""
    drawn, middle = np.sort(_drawn(values), axis=0), statistics.iqm(values, axis=0)
    share = ((drawn < middle).mean(axis=0) + (drawn <= middle).mean(axis=0)) / 2
    z0, d = special.ndtri(np.clip(share, 1e-3, 1 - 1e-3)), _jackknife(values)
    a = (d**3).sum(axis=0) / (6 * np.maximum((d**2).sum(axis=0), 1e-300) ** 1.5)
    ends = []
    for z in special.ndtri([0.025, 0.975]):
        level = special.ndtr(z0 + (z0 + z) / (1 - a * (z0 + z)))
        ends.append(drawn[np.minimum((level * DRAWS).astype(int), DRAWS - 1), np.arange(drawn.shape[1])])
    return tuple(ends)


def trimmed_t(values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Tukey and McLaughlin (1963): Student's t of the trimmed mean, by the Winsorised variance."""
    ordered, cut = np.sort(values, axis=0), len(values) // 4
    ordered = ordered[np.clip(np.arange(len(values)), cut, len(values) - cut - 1)]
    kept = len(values) - 2 * cut
    error = np.sqrt(ordered.var(axis=0) * len(values) / (kept * (kept - 1)))
    half, middle = special.stdtrit(kept - 1, 0.975) * error, statistics.iqm(values, axis=0)
    return middle - half, middle + half


def jackknife_t(values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Tukey (1958): Student's t with the jackknife's error."""
    count, middle = len(values), statistics.iqm(values, axis=0)
    error = np.sqrt((count - 1) / count * (_jackknife(values) ** 2).sum(axis=0))
    return middle - special.stdtrit(count - 1, 0.975) * error, middle + special.stdtrit(count - 1, 0.975) * error


def _drawn(values):
    picks = np.random.default_rng(0).integers(0, len(values), (DRAWS, len(values)))
    return np.stack([statistics.iqm(values[pick], axis=0) for pick in picks])


def _jackknife(values):
    without = np.stack([statistics.iqm(np.delete(values, i, axis=0), axis=0) for i in range(len(values))])
    return without.mean(axis=0) - without


OTHERS = {
    "pgjax": lambda values: statistics.bootstrap(values, draws=DRAWS),
    "percentile": percentile,
    "BCa": bca,
    "trimmed t": trimmed_t,
    "jackknife t": jackknife_t,
}


def pairs(scores: str, shift: float, seeds: int, repeats: int) -> float:
    """How often the interval of the probability of improvement of x + shift over y holds it."""
    grid = SCORES[scores]((np.arange(4000) + 0.5) / 4000)
    true = np.searchsorted(grid, grid + shift).mean() / len(grid)
    x, y = sample(scores, seeds, repeats, 1) + shift, sample(scores, seeds, repeats, 2)
    ends = np.array([statistics.probability_of_improvement(a, b)[1:] for a, b in zip(x.T, y.T, strict=True)])
    return held(*ends.T, true)


def ranks(scores: str, settings: int, step: float, seeds: int, repeats: int) -> float:
    """How often the intervals of ranks hold the true ones, of settings each `step` above the one before."""
    x = np.random.default_rng([3, seeds]).random((repeats, seeds, settings))
    x, true = SCORES[scores](x) + step * np.arange(settings), np.arange(settings, 0, -1)
    ends = [statistics.ranking(one, draws=DRAWS)[1:] for one in x]
    return float(np.mean([(low <= true) & (true <= high) for low, high in ends]))


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] + ["---:"] * (len(head) - 1), *rows)]


def main() -> int:
    from common import RESULTS, cpu  # here, so that the tests can use what is above

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2000, help="samples of each cell")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, help="folder of coverage.md")
    options = parser.parse_args()
    began, repeats = time.perf_counter(), options.repeats
    head = ["scores", *(f"n = {n}" for n in SEEDS)]
    parts = []
    for name, statistic in STATISTICS.items():
        rows = []
        for scores in SCORES:
            true = truth(scores)[name]
            ends = [statistics.bootstrap(sample(scores, n, repeats), statistic, draws=DRAWS) for n in SEEDS]
            rows.append([scores, *(f"{held(low, high, true):.3f}" for low, high in ends)])
            print(name, *rows[-1], flush=True)
        parts += ["", f"## {name}", "", *table(head, rows)]
    parts += ["", "## The IQM by other methods", "", "Coverage, and the median width over pgjax's.", ""]
    some, rows = (3, 4, 5, 8, 16, 32), []
    for scores in ("normal", "lognormal", "two humps"):
        true, widths = truth(scores)["IQM"], {}
        for name, method in OTHERS.items():
            row = []
            for n in some:
                low, high = method(sample(scores, n, repeats))
                width = np.median(high - low)
                row.append(f"{held(low, high, true):.3f}, {width / widths.setdefault(n, width):.2f}")
            rows.append([f"{scores}: {name}", *row])
            print(*rows[-1], flush=True)
    parts += table(["scores: method", *(f"n = {n}" for n in some)], rows)
    fewer, few = max(50, repeats // 4), (2, 3, 4, 5, 8, 16)
    rows = [
        [f"{scores}, shifted by {shift:g}", *(f"{pairs(scores, shift, n, repeats):.3f}" for n in few)]
        for scores, shift in (("normal", 0), ("normal", 1), ("normal", 3), ("lognormal", 1), ("two humps", 30))
    ]
    parts += [
        "",
        "## Probability of improvement, n against n",
        "",
        *table(["scores", *(f"n = {n}" for n in few)], rows),
    ]
    rows = [
        [f"{settings} settings, {scores}, steps of {step:g}"]
        + [f"{ranks(scores, settings, step, n, fewer):.3f}" for n in few]
        for settings, scores, step in ((2, "normal", 1), (10, "normal", 0.3), (10, "lognormal", 0.3))
    ]
    parts += ["", f"## Ranks, {fewer:,} repeats", "", *table(["scores", *(f"n = {n}" for n in few)], rows)]
    machine, error = cpu(), np.sqrt(0.95 * 0.05 / repeats)
    about = [
        "# How often 95 % intervals hold the true value",
        "",
        f"Made by `python benchmarks/coverage.py{f' --repeats {repeats}' if repeats != 2000 else ''}` in "
        f"{time.perf_counter() - began:.0f} s on {machine['cores']} cores of {machine['model']}, Python "
        f"{platform.python_version()}, NumPy {np.__version__}; generator seeds [0, n] (pairs [1, n] and [2, n], ranks "
        f"[3, n]), {repeats:,} repeats of each cell, {DRAWS:,} resamples. "
        f"Standard error of a share of .95: {error:.3f}.",
        "",
        "Scores: lognormal has sigma 1; arcsine is beta(.5, .5); clipped is N(450, 80^2) up to 500, which 27 % reach; "
        "of two humps half are N(20, 5^2) and half N(200, 20^2). What is held is the statistic of all seeds there "
        "might be; of the IQM, the mean between the quartiles of the distribution.",
    ]
    (options.results / "coverage.md").write_text("\n".join([*about, *parts]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Reads the settings of a dataset, their final returns, and the lanes without one."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pgjax.statistics import bootstrap, iqm, naniqm

FEW_SEEDS = 5  # with fewer, a sentence warns about the intervals


class Row(NamedTuple):
    """One setting of a dataset."""

    name: str  # for legends; the label of its dataset first, where there are several
    values: dict[str, Any]  # swept hyperparameter -> value
    chosen: Any  # the dataset of this setting alone
    seeds: np.ndarray  # [S]
    finals: np.ndarray  # [S] final return of each seed with sampled actions, NaN where it has none
    failed: np.ndarray  # [S] bool
    stopped: np.ndarray  # [S] bool, by a halving rule: no failure
    unscored: np.ndarray  # [S] bool: neither failed nor stopped, but the evaluation's returns are not all finite

    @property
    def lost(self) -> str:
        """' (2 failed, 1 stopped)', or nothing."""
        lanes = {"failed": self.failed, "stopped": self.stopped, "without a finite score": self.unscored}
        counts = {kind: int(which.sum()) for kind, which in lanes.items()}
        parts = [f"{n if n < len(self.seeds) else 'all'} {kind}" for kind, n in counts.items() if n]
        return f" ({', '.join(parts)})" if parts else ""

    @property
    def good(self) -> np.ndarray:
        """The final returns that are finite."""
        return self.finals[np.isfinite(self.finals)]

    @property
    def counted(self) -> str:
        """The number of seeds in the statistics: '8', or '7 of 8'."""
        return counted(len(self.good), len(self.seeds))


def settings_of(metrics: Any) -> list[dict[str, Any]]:
    """Every setting of a dataset, as a selector; one empty selector where nothing was swept."""
    names = [d for d in metrics["finite"].dims if d != "seed"]
    return [dict(zip(names, row, strict=True)) for row in itertools.product(*(metrics[n].values for n in names))]


def labels(metrics: Any, selector: dict[str, Any]) -> dict[str, Any]:
    """Hyperparameter -> value of one of `settings_of`: the selector itself in a grid, the drawn values in a search."""
    # A dataset read back has its coordinates in any order.
    drawn = sorted(name for name, c in metrics.coords.items() if c.dims == ("setting",) and name != "setting")
    if "setting" not in selector or not drawn:
        return {name: _plain(value) for name, value in selector.items()}
    place = int(np.flatnonzero(metrics["setting"].values == selector["setting"])[0])
    return {name: _plain(metrics[name].values[place]) for name in drawn}


def rows(metrics: Any) -> list[Row]:
    """Every setting of a dataset, or of each of label -> dataset; rows already made are passed on."""
    if isinstance(metrics, list):
        return metrics
    found = []
    for label, dataset in (metrics if isinstance(metrics, dict) else {"": metrics}).items():
        for selector in settings_of(dataset):
            values, chosen = labels(dataset, selector), dataset.sel(selector)
            stopped, failed = _lost(chosen)
            lanes = (chosen["seed"].values, final_returns(chosen), failed, stopped, unscored(chosen))
            found.append(Row(str(label), values, chosen, *lanes))
    names = [
        " ".join(filter(None, (row.name, said)))
        for row, said in zip(found, descriptions([row.values for row in found]), strict=True)
    ]
    # A search may draw the same setting twice.
    twice = {name for name in names if names.count(name) > 1}
    for h, row in enumerate(found):
        if names[h] in twice and "setting" in row.chosen.coords:
            names[h] += f" (setting {row.chosen['setting'].item()})"
    return [row._replace(name=name) for row, name in zip(found, names, strict=True)]


def scores(found: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """seeds [S] of all the rows H, and their final returns [S, H]; NaN also where a row lacks the seed."""
    seeds = np.unique(np.concatenate([row.seeds for row in found]))
    table = np.full((len(seeds), len(found)), np.nan)
    for h, row in enumerate(found):
        table[np.searchsorted(seeds, row.seeds), h] = row.finals
    return seeds, table


def ranked(found: Sequence[Row], name: str = "episode_return") -> list[int]:
    """Places of the rows, best first, by the IQM of their final returns.

    Rows without final returns, stopped or interrupted, follow by the IQM of the last values of the metric `name`;
    rows without these either are left out.
    """
    keys: dict[int, tuple[bool, float]] = {}
    for h, row in enumerate(found):
        final, last = float(naniqm(row.finals)), np.nan
        if np.isnan(final) and name in row.chosen:
            curves = row.chosen[name].values[~row.failed]
            ends = [y[np.isfinite(y)][-1] for y in curves if np.isfinite(y).any()]
            last = float(naniqm(np.array(ends))) if ends else np.nan
        if np.isfinite(final) or np.isfinite(last):
            keys[h] = (math.isfinite(final), final if np.isfinite(final) else last)
    return sorted(keys, key=lambda h: keys[h], reverse=True)


def summarise(metrics: Any) -> list[dict[str, Any]]:
    """For each setting the statistics of its final returns over seeds, and its lanes without one.

    A seed's final return is the mean of its evaluation episodes. A failed or stopped lane has none, nor has a lane
    whose evaluation's returns are not all finite: `failed_seeds` and `unscored_seeds` list them, `stopped` counts
    them. Statistics are over the `scored` others of `seeds`. `iqm_95` is None from one seed.
    """
    out = []
    for row in rows(metrics):
        entry: dict[str, Any] = {"setting": row.values, "seeds": len(row.seeds)}
        entry["failed_seeds"] = [int(s) for s in row.seeds[row.failed]]
        entry["stopped"] = int(row.stopped.sum())
        entry["unscored_seeds"] = [int(s) for s in row.seeds[row.unscored]]
        for kind in ("stochastic", "greedy"):
            finals = final_returns(row.chosen, kind)
            good = finals[np.isfinite(finals)]
            if not len(good):
                continue
            low, high = bootstrap(good)
            entry[kind] = {
                "iqm": float(iqm(good)),
                "iqm_95": [float(low), float(high)] if len(good) > 1 else None,
                "mean": float(_safe(np.mean, good)),
                "median": float(_safe(np.median, good)),
                "std": float(_safe(lambda x: x.std(ddof=1), good)) if len(good) > 1 else None,
                "scored": len(good),
                "seeds": [float(x) if np.isfinite(x) else None for x in finals],
            }
        out.append(entry)
    return out


def describe(setting: dict[str, Any], among: Sequence[dict[str, Any]] = ()) -> str:
    """'learning_rate=0.001 n=5', or '' for the only setting.

    A number drawn at random has 4 digits, or as many as distinguish it from those of the settings `among`.
    """
    return descriptions([*among, setting])[-1]


def descriptions(settings: Sequence[dict[str, Any]]) -> list[str]:
    """`describe` of each setting among the others."""
    names = list(dict.fromkeys(name for setting in settings for name in setting))
    texts = {name: spelled([setting[name] for setting in settings if name in setting]) for name in names}
    return [" ".join(f"{name}={texts[name][value]}" for name, value in setting.items()) for setting in settings]


def spelled(values: Sequence[Any]) -> dict[Any, str]:
    """Value -> text: long numbers have 4 digits, or as many as distinguish the values."""
    distinct = list(dict.fromkeys(values))
    for digits in range(4, 18):  # 17 are all there are
        texts = [_short(value, digits) for value in distinct]
        if len(set(texts)) == len(distinct):
            break
    return dict(zip(distinct, texts, strict=True))


def _short(value: Any, digits: int) -> str:
    if not isinstance(value, float) or digits == 17:
        return str(value)
    return f"{value:.{max(6, digits)}g}" if len(str(value)) <= 8 else f"{value:.{digits}g}"


def counted(scored: int, seeds: int) -> str:
    """'8', or '7 of 8' seeds."""
    return f"{seeds}" if scored == seeds else f"{scored} of {seeds}"


def few(counts: Sequence[int]) -> str:
    """A warning about the intervals where settings have few seeds, else ''; `counts` are the seeds of each setting."""
    counts = [n for n in counts if n]
    if not counts or min(counts) >= FEW_SEEDS:
        return ""
    if max(counts) == 1:
        return "One seed says nothing about other seeds: there are no intervals."
    least = "" if len(set(counts)) == 1 else "As few as "
    seeds = f"{least}{min(counts)} seed{'s' * (min(counts) > 1)}"
    said = f"{seeds}: 95 % intervals are as wide as so few make them, and can't know of scores that no seed here had."
    return said if min(counts) > 1 else said + " One seed has none."


def span(low: float, high: float) -> str:
    """The interval of a rank, in whole and half places; '-' for NaN."""
    return "-" if np.isnan(low) else " to ".join(f"{round(2 * rank) / 2:g}" for rank in (low, high))


def _lost(chosen: Any) -> tuple[np.ndarray, np.ndarray]:
    finite = chosen["finite"].values
    stopped = chosen["stopped"].values.astype(bool) if "stopped" in chosen else np.zeros(finite.shape, bool)
    return stopped, ~finite & ~stopped


def final_returns(chosen: Any, kind: str = "stochastic") -> np.ndarray:
    """[S] mean over evaluation episodes, NaN where a lane has no finite one."""
    stopped, failed = _lost(chosen)
    if f"final_return_{kind}" not in chosen:
        return np.full(failed.shape, np.nan)
    episodes = chosen[f"final_return_{kind}"].values
    # Settings with fewer episodes than others are filled up with NaN.
    real = _played(chosen, kind).any(axis=0)
    means = _safe(lambda x: x.mean(axis=-1), episodes[:, real]) if real.any() else np.full(failed.shape, np.nan)
    return np.where(stopped | failed | ~np.isfinite(means), np.nan, means)


def unscored(chosen: Any, kind: str = "stochastic") -> np.ndarray:
    """[S] whether a lane was evaluated, neither failed nor stopped, and has no finite score."""
    stopped, failed = _lost(chosen)
    if f"final_return_{kind}" not in chosen:
        return np.zeros(failed.shape, bool)
    played = _played(chosen, kind).any(axis=-1)
    return played & ~stopped & ~failed & np.isnan(final_returns(chosen, kind))


def _played(chosen: Any, kind: str) -> np.ndarray:
    """[S, E] which episodes there are: every one has a length, whatever its return."""
    return ~np.isnan(chosen[f"final_{'length' if f'final_length_{kind}' in chosen else 'return'}_{kind}"].values)


def _safe(f: Callable[[np.ndarray], Any], values: np.ndarray) -> np.ndarray:
    """f(values) in their own precision, or in double where that overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        found, wide = f(values), f(values.astype(float))
    better = ~np.isfinite(found) & np.isfinite(wide)
    return np.where(better, wide, found) if np.any(better) else found


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value

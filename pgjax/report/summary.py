"""The dataset of a run in; its settings, their final returns and the lanes without one out."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pgjax.statistics import bootstrap, iqm, naniqm


class Row(NamedTuple):
    """One setting of a dataset."""

    name: str  # for legends; the label of its dataset first, where there are several
    values: dict[str, Any]  # hyperparameter -> value, of what was swept
    chosen: Any  # the dataset of this setting alone
    seeds: np.ndarray  # [S]
    finals: np.ndarray  # [S] final return of each seed with sampled actions, NaN where there is none
    failed: np.ndarray  # [S] bool
    stopped: np.ndarray  # [S] bool, by a halving rule: no failure

    @property
    def lost(self) -> str:
        """' (2 failed, 1 stopped)', or nothing."""
        counts = {"failed": self.failed.sum(), "stopped": self.stopped.sum()}
        parts = [f"{n if n < len(self.seeds) else 'all'} {what}" for what, n in counts.items() if n]
        return f" ({', '.join(parts)})" if parts else ""


def settings_of(metrics: Any) -> list[dict[str, Any]]:
    """Every setting of a dataset, as a selector; one empty selector where nothing was swept."""
    names = [d for d in metrics["finite"].dims if d != "seed"]
    return [dict(zip(names, row, strict=True)) for row in itertools.product(*(metrics[n].values for n in names))]


def labels(metrics: Any, selector: dict[str, Any]) -> dict[str, Any]:
    """Hyperparameter -> value of one of `settings_of`: of a grid the selector itself; of a search what was drawn."""
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
            name = " ".join(filter(None, (str(label), describe(values))))
            found.append(Row(name, values, chosen, chosen["seed"].values, final_returns(chosen), failed, stopped))
    return found


def scores(found: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """seeds [S] of all the rows H, and their final returns [S, H]; NaN also where a row lacks the seed."""
    seeds = np.unique(np.concatenate([row.seeds for row in found]))
    table = np.full((len(seeds), len(found)), np.nan)
    for h, row in enumerate(found):
        table[np.searchsorted(seeds, row.seeds), h] = row.finals
    return seeds, table


def ranked(found: Sequence[Row], name: str = "episode_return") -> list[int]:
    """Places of the rows that have a score, best first: by the IQM of their final returns, and after them those
    without, stopped or interrupted, by the IQM of where `name` ended."""
    keys = {}
    for h, row in enumerate(found):
        final, last = naniqm(row.finals), np.nan
        if np.isnan(final) and name in row.chosen:
            curves = row.chosen[name].values[~row.failed]
            ends = [y[np.isfinite(y)][-1] for y in curves if np.isfinite(y).any()]
            last = naniqm(ends) if ends else np.nan
        if np.isfinite(final) or np.isfinite(last):
            keys[h] = (np.isfinite(final), final if np.isfinite(final) else last)
    return sorted(keys, key=keys.get, reverse=True)


def summarise(metrics: Any) -> list[dict[str, Any]]:
    """For each setting: final returns over seeds (each the mean of its evaluation episodes), lanes without one.

    A failed lane has no final return, nor has a stopped one; statistics are over the others, `failed_seeds` says
    which failed, and `stopped` how many were stopped.
    """
    out = []
    for row in rows(metrics):
        entry: dict[str, Any] = {"setting": row.values}
        entry["failed_seeds"] = [int(s) for s in row.seeds[row.failed]]
        entry["stopped"] = int(row.stopped.sum())
        for kind in ("stochastic", "greedy"):
            finals = final_returns(row.chosen, kind)
            good = finals[np.isfinite(finals)]
            if not len(good):
                continue
            low, high = bootstrap(good)
            entry[kind] = {
                "iqm": float(iqm(good)),
                "iqm_95": [float(low), float(high)],
                "mean": float(good.mean()),
                "median": float(np.median(good)),
                "std": float(good.std(ddof=1)) if len(good) > 1 else None,
                "seeds": [float(x) if np.isfinite(x) else None for x in finals],
            }
        out.append(entry)
    return out


def describe(setting: dict[str, Any]) -> str:
    """'learning_rate=0.001 n=5', or '' for the only setting; a number drawn at random to 4 digits."""
    return " ".join(f"{name}={short(value)}" for name, value in setting.items())


def short(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:g}" if len(str(value)) <= 8 else f"{value:.4g}"


def span(low: float, high: float) -> str:
    """The interval of a rank, in whole and half places."""
    return " to ".join(f"{round(2 * rank) / 2:g}" for rank in (low, high))


def _lost(chosen: Any) -> tuple[np.ndarray, np.ndarray]:
    finite = chosen["finite"].values
    stopped = chosen["stopped"].values.astype(bool) if "stopped" in chosen else np.zeros(finite.shape, bool)
    return stopped, ~finite & ~stopped


def final_returns(chosen: Any, kind: str = "stochastic") -> np.ndarray:
    """[S] mean over evaluation episodes, NaN where a lane has none."""
    stopped, failed = _lost(chosen)
    if f"final_return_{kind}" not in chosen:
        return np.full(failed.shape, np.nan)
    episodes = chosen[f"final_return_{kind}"].values
    # Settings with fewer episodes than others are filled up with NaN.
    real = ~np.isnan(episodes).all(axis=0)
    means = episodes[:, real].mean(axis=-1) if real.any() else np.full(failed.shape, np.nan)
    return np.where(stopped | failed, np.nan, means)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value

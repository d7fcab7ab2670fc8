"""The dataset of a run in; statistics, tables and figures out."""

import pathlib
from typing import Any

import numpy as np


def iqm(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Interquartile mean: the mean of the middle half (Agarwal et al. 2021), NaN where any value is.

    A quarter of the values, rounded down, is cut off at either end.
    """
    values = np.sort(np.moveaxis(np.asarray(values, float), axis, -1), axis=-1)
    cut = values.shape[-1] // 4
    middle = values[..., cut : values.shape[-1] - cut].mean(axis=-1)
    return np.where(np.isnan(values).any(axis=-1), np.nan, middle)


def bootstrap(
    values: np.ndarray, statistic: Any = iqm, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of a statistic over seeds, by resampling seeds (Agarwal et al. 2021, sec. 4.1).

    Args:
      values: [S] or [S, ...]; each further axis keeps its own statistic, on the same resampled seeds.
        For a statistic over several tasks, stack them behind S and let `statistic` average: resampling
        seeds for each task apart is then what stratified means; with one task they are the same.
    Returns:
      lower and upper end, each [...].
    """
    generator = np.random.default_rng(seed)
    values = np.asarray(values, float)
    picks = generator.integers(0, len(values), (draws, len(values)))
    statistics = np.stack([statistic(values[pick], axis=0) for pick in picks])
    tail = 100 * (1 - level) / 2
    with np.errstate(invalid="ignore"):
        return np.percentile(statistics, tail, axis=0), np.percentile(statistics, 100 - tail, axis=0)


def settings_of(metrics: Any) -> list[dict[str, Any]]:
    """Every setting of a dataset, as a selector; one empty selector where nothing was swept."""
    import itertools

    names = [d for d in metrics["finite"].dims if d != "seed"]
    return [dict(zip(names, row, strict=True)) for row in itertools.product(*(metrics[n].values for n in names))]


def summarise(metrics: Any) -> list[dict[str, Any]]:
    """For each setting: final returns over seeds (each the mean of its evaluation episodes), failed lanes.

    A failed lane has no final return; statistics are over the others, and `failed_seeds` says which.
    """
    rows = []
    for setting in settings_of(metrics):
        chosen = metrics.sel(setting)
        finite = chosen["finite"].values
        row: dict[str, Any] = {"setting": {k: _plain(v) for k, v in setting.items()}}
        row["failed_seeds"] = [int(s) for s in chosen["seed"].values[~finite]]
        for kind in ("stochastic", "greedy"):
            if f"final_return_{kind}" not in chosen:
                continue
            finals = np.where(finite, chosen[f"final_return_{kind}"].values.mean(axis=-1), np.nan)
            good = finals[np.isfinite(finals)]
            if not len(good):
                continue
            low, high = bootstrap(good)
            row[kind] = {
                "iqm": float(iqm(good)),
                "iqm_95": [float(low), float(high)],
                "mean": float(good.mean()),
                "median": float(np.median(good)),
                "std": float(good.std(ddof=1)) if len(good) > 1 else None,
                "seeds": [float(x) if np.isfinite(x) else None for x in finals],
            }
        rows.append(row)
    return rows


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def describe(setting: dict[str, Any]) -> str:
    """'learning_rate=0.001 n=5', or '' for the only setting."""
    return " ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in setting.items())


def curve(metrics: Any, path: str | pathlib.Path, title: str = "", name: str = "episode_return") -> None:
    """Draw a metric against environment steps: IQM over seeds and its 95 % bootstrap band, by setting."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    settings = settings_of(metrics) if name in metrics else []
    for index, setting in enumerate(settings):
        chosen = metrics.sel(setting)
        finite = chosen["finite"].values
        if not finite.any():
            continue
        x, y = on_common_steps(chosen, name, finite)
        shown = np.isfinite(y).all(axis=0)
        if not shown.any():
            continue
        x, y = x[shown], y[:, shown]
        color = f"C{index % 10}"
        label = describe(setting) or f"IQM of {finite.sum()} seeds"
        failed = f" ({(~finite).sum()} failed)" if not finite.all() else ""
        axes.plot(x, iqm(y, axis=0), color=color, lw=1.8, label=label + failed)
        if len(y) > 1:
            low, high = bootstrap(y, draws=500)
            axes.fill_between(x, low, high, color=color, alpha=0.25, lw=0)
    axes.set_xlabel("environment steps of each seed")
    axes.set_ylabel(name.replace("_", " "))
    axes.set_title(title, fontsize=11)
    axes.xaxis.set_major_formatter(_short)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False, title="band: 95 % bootstrap over seeds", title_fontsize=8)
    figure.savefig(path, dpi=150)


def on_common_steps(chosen: Any, name: str, finite: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x [U] and the metric [S, U] of the lanes that are finite.

    Where lanes take different numbers of steps (whole episodes), each is interpolated onto the same
    axis, and one that ended earlier keeps its last value: what happened late in any lane shows.
    """
    y = chosen[name].values[finite]
    steps = chosen["env_steps"]
    if steps.dims == ("update",):
        return steps.values, y
    steps = steps.values[finite]
    done = np.isfinite(steps) & np.isfinite(y)
    usable = [i for i in range(len(y)) if done[i].any()]
    if not usable:
        return steps[0], y
    first = max(steps[i][done[i]][0] for i in usable)
    last = max(steps[i][done[i]][-1] for i in usable)
    x = np.linspace(first, last, y.shape[1])
    return x, np.stack([np.interp(x, steps[i][done[i]], y[i][done[i]]) for i in usable])


def _short(value: float, _: Any) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def table(summary: dict[str, Any]) -> Any:
    """A rich table of the final returns, one row for each setting."""
    from rich.table import Table

    out = Table(title=f"final return, {summary['eval_episodes']} whole episodes for each seed", title_justify="left")
    for column in ("setting", "IQM", "95 % interval", "mean", "median", "greedy IQM", "failed"):
        out.add_column(column, justify="left" if column == "setting" else "right", no_wrap=column != "setting")
    for row in summary["settings"]:
        failed = str(len(row["failed_seeds"]))
        if "stochastic" not in row:
            out.add_row(describe(row["setting"]) or "default", *["-"] * 5, failed)
            continue
        s = row["stochastic"]
        low, high = s["iqm_95"]
        numbers = (f"{s['iqm']:.1f}", f"{low:.1f} to {high:.1f}", f"{s['mean']:.1f}", f"{s['median']:.1f}")
        out.add_row(describe(row["setting"]) or "default", *numbers, f"{row['greedy']['iqm']:.1f}", failed)
    return out

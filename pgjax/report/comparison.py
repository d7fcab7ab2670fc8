"""Compares several runs on the page, or says why they can't be compared."""

import numpy as np

from pgjax import analysis, statistics
from pgjax.analysis.summary import few, span
from pgjax.report.html import figure, heading, paragraph, table
from pgjax.report.sections import apart, interval, number
from pgjax.runs.run import Run


def comparison(runs: dict[str, Run]) -> str:
    """Compares the best settings of the runs, and all settings together; `runs` are by name."""
    parts = [heading("Comparison", 2)]
    environments = {name: _environment(run) for name, run in runs.items()}
    if len(set(environments.values())) > 1:
        listed = "; ".join(f"{name}: {environment}" for name, environment in environments.items())
        said = f"The runs are on different environments ({listed}). Their returns have no common scale, so they are "
        return parts[0] + paragraph(f"{said}not compared here; each is shown by itself below.", "warning")
    every = {name: analysis.rows({name: run.metrics}) for name, run in runs.items()}
    best: dict[str, analysis.Row] = {}
    missing = []
    for name, rows in every.items():
        order = analysis.ranked(rows)
        if order and np.isfinite(rows[order[0]].finals).any():
            best[name] = rows[order[0]]
        else:
            missing.append(name)
    if missing:
        parts.append(paragraph(f"Without final returns, so left out: {', '.join(missing)}.", "warning"))
    if len(best) < 2:
        parts.append(paragraph("Fewer than two runs have final returns: there is nothing to compare.", "note"))
        return "".join(parts)
    if any(run.interrupted for run in runs.values()):
        parts.append(paragraph("A run here was interrupted: its settings trained less than was planned.", "warning"))
    parts += [heading("The best setting of each run"), _best(list(best.values()))]
    parts += [heading("Probability of improvement"), _improvement(best)]
    rows = list(best.values())
    parts.append(paragraph(apart(rows)))
    draw = lambda f, rows: lambda file: f(rows, file)  # noqa: E731
    parts.append(figure("Learning curves of the best settings", draw(analysis.curve, rows)))
    parts.append(figure("Performance profiles of the best settings", draw(analysis.profiles, rows)))
    settings = [row for rows in every.values() for row in rows]
    if len(settings) > len(best):
        parts.append(figure("All settings of all runs", draw(analysis.forest, settings), _seeds(list(runs.values()))))
    return "".join(parts)


def _best(rows: list[analysis.Row]) -> str:
    rank, low_rank, high_rank = statistics.ranking(analysis.scores(rows)[1])
    lines = []
    for h in np.argsort(rank, kind="stable"):
        good = rows[h].good.astype(float)
        value = [number(statistics.iqm(good)), interval(*statistics.bootstrap(good)), number(good.mean())]
        place = [f"{rank[h]:g}", span(low_rank[h], high_rank[h])]
        lines.append([*place, rows[h].name + rows[h].lost, *value, rows[h].counted])
    said = (
        "Best by the IQM of its final returns, on the seeds that are shown: of many settings, the best looks a little "
    )
    said += "better than it is. New seeds (--seed) settle it."
    head = ["rank", "95 %", "run and setting", "IQM", "95 %", "mean", "seeds"]
    note = few([len(row.good) for row in rows])
    return paragraph(said, "note") + (paragraph(note, "warning") if note else "") + table(head, lines, text=(2,))


def _improvement(best: dict[str, analysis.Row]) -> str:
    """The matrix of P(row > column)."""
    lines, sure = [], []
    for i, (name, row) in enumerate(best.items()):
        line = [name]
        for j, other in enumerate(best.values()):
            if i == j:
                line.append("")
                continue
            p, low, high = statistics.probability_of_improvement(row.good, other.good)
            line.append(f"{p:.2f} (" + ("-" if np.isnan(low) else f"{low:.2f} to {high:.2f}") + ")")
            sure += [(i, j + 1)] if low > 0.5 or high < 0.5 else []
        lines.append(line)
    said = "The chance that the best setting of the row's run scores above that of the column's run, ties counting one "
    said += "half, with its 95 % interval; bold where the interval leaves out one half, which takes 4 seeds of each or "
    said += "more."
    return paragraph(said, "note") + table(["", *best], lines, sure=sure)


def _seeds(runs: list[Run]) -> str:
    """A sentence on how the intervals of ranks resample seeds."""
    if len({tuple(run.metrics["seed"].values.tolist()) for run in runs}) == 1:
        return "All settings share their seeds; the intervals of ranks resample seeds for all together."
    return "The runs have different seeds; the intervals of ranks resample each seed for the settings that have it."


def _environment(run: Run) -> str:
    """The environment with the parameters set for the whole run; returns on different ones have no common scale."""
    fixed = sorted((k, str(v)) for k, v in run.config.get("fixed", {}).items() if k.startswith("env."))
    return " ".join([run.config["env"], *(f"{key}={value}" for key, value in fixed)])

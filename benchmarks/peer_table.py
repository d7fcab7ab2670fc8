"""The report of peers.py in; a table on the terminal and a figure out."""

import pathlib
import sys
from typing import Any


def show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="pgjax's rate / the peer's: above 1, pgjax is the faster", title_justify="left")
    for column in ("peer", "case", "what"):
        table.add_column(column)
    for column in ("unit", "pgjax / s", "peer / s", "ratio of medians", "paired ratios"):
        table.add_column(column, justify="right")
    for case, row in rows(report):
        rates = [row[side][f"{row['unit']}_per_second"] for side in ("pgjax", case["peer"])]
        pairs = row["paired_ratios"]
        table.add_row(
            case["peer"],
            case["name"],
            row["name"],
            row["unit"],
            *(f"{rate:.4g}" for rate in rates),
            f"{row['ratio_of_medians']:.2f}",
            f"{row['median_of_paired_ratios']:.2f} ({min(pairs):.2f}..{max(pairs):.2f})",
        )
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    if "final_returns" in report:
        found = report["final_returns"]
        for side in ("pgjax", "rejax"):
            low, high = found[side]["mean_interval"]
            steps = found["env_steps_per_lane"]
            print(
                f"final return of {side} after {steps} steps: mean {found[side]['mean']:.1f} ({low:.1f} to {high:.1f})"
            )


def rows(report: dict[str, Any]) -> list[tuple[dict, dict]]:
    return [(case, row) for case in report["cases"] for row in case["comparisons"]]


def draw(report: dict[str, Any], path: pathlib.Path) -> None:
    """The ratios, their medians and every pair, on a logarithmic axis."""
    from matplotlib.figure import Figure

    found = rows(report)
    figure = Figure(figsize=(9, 0.9 + 0.32 * len(found)), layout="constrained")
    axes = figure.subplots()
    for y, (_, row) in enumerate(found):
        pairs = row["paired_ratios"]
        axes.plot(pairs, [y] * len(pairs), "|", color="C0", ms=9)
        axes.plot(row["median_of_paired_ratios"], y, "o", color="C0", ms=5)
        axes.annotate(
            f"{row['median_of_paired_ratios']:.3g}", (max(pairs), y), (6, -3), textcoords="offset points", fontsize=8
        )
    labels = [f"{case['peer']}: {case['name']}: {row['name']}" for case, row in found]
    axes.axvline(1, color="k", lw=1)
    axes.set_yticks(range(len(found)), labels, fontsize=8)
    axes.set(xscale="log", xlabel="pgjax's rate over the peer's")
    axes.set_xlim(right=2 * axes.get_xlim()[1])
    axes.invert_yaxis()
    axes.grid(alpha=0.3, axis="x", which="both")
    figure.savefig(path, dpi=130)

"""The summary of a comparison in; a table for people out."""

import math
from typing import Any

import numpy as np

from pgjax.packages import importing


def table(summary: dict[str, Any]) -> Any:
    """A rich table, one row for each estimator."""
    with importing("rich"):
        from rich.table import Table

    source = summary["reference_episodes"]
    against = "the exact gradient" if source == "exact" else f"a reference of {source} episodes"
    largest = max(summary["batch"])
    norm = show(summary["gradient_norm"]).removesuffix(" exact")
    out = Table(
        title=f"{summary['episodes']} episodes, against {against} of norm {norm}; variance and SNR of one episode",
        title_justify="left",
    )
    columns = (
        "estimator",
        "bias / norm",
        "z",
        "variance",
        "SNR",
        "n for cos .9",
        "n for .99",
        f"cos at {largest}",
        "ascends",
    )
    for column in columns:
        out.add_column(column, justify="left" if column == "estimator" else "right", no_wrap=True)
    for name, row in summary["estimators"].items():
        cells = [
            row["relative_bias"],
            row["trace"],
            row["snr"],
            row["samples_90"],
            row["samples_99"],
            row["cosine"][-1],
        ]
        shown = [show(x) for x in cells]
        first = next(x for x in row["ascends"] if np.isfinite(x["value"]))
        out.add_row(name, shown[0], f"{row['bias_z']:.1f}", *shown[1:], show(first))
    return out


def show(number: dict[str, Any]) -> str:
    """'1.23 +- .04', to the digits that the error leaves; an exact number by itself."""
    value, se = number["value"], number.get("se")
    if number.get("exact"):
        return f"{value:.4g} exact"
    if not math.isfinite(value):
        return "never" if value > 0 else "?"
    if se is None or not math.isfinite(se) or se == 0:
        return f"{value:.3g}"
    digits = max(0, 1 - math.floor(math.log10(se)))
    return f"{value:.{digits}f} ± {se:.{digits}f}" if digits < 7 and abs(value) < 1e6 else f"{value:.2e} ± {se:.0e}"

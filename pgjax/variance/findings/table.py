"""Tables of a comparison, for the terminal."""

import math
from typing import Any

import numpy as np

from pgjax.dependencies import importing
from pgjax.variance.findings import doubts


def table(summary: dict[str, Any]) -> Any:
    """A rich table, one row for each estimator; a number that can't be trusted has a question mark and a line below."""
    with importing("rich"):
        from rich.table import Table
        from rich.text import Text

    source = summary["reference_episodes"]
    against = "the exact gradient" if source == "exact" else f"a reference of {source} episodes"
    largest = max(summary["batch"])
    norm = show(summary["gradient_norm"]).removesuffix(" exact")
    out = Table(
        title=f"{summary['episodes']} episodes, against {against} of norm {norm}; variance and SNR of one episode",
        title_justify="left",
        caption=Text("\n".join([_LEGEND, *doubts.sentences(summary)])),
        caption_justify="left",
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
        shown = []
        for cell in ("relative_bias", "bias_z", "trace", "snr", "samples_90", "samples_99"):
            never = "never" if cell.startswith("samples") else "∞"
            text = f"{row[cell]:.1f}" if cell == "bias_z" else show(row[cell], never)
            shown.append(f"{text} ?" if cell in row["untrusted"] and text != "?" else text)
        first = next((x for x in row["ascends"] if np.isfinite(x["value"])), row["ascends"][-1])
        out.add_row(name, *shown, show(row["cosine"][-1]), show(first))
    return out


_LEGEND = "± is a standard error, (a to b) an interval of 95 %"


def show(number: dict[str, Any], infinite: str = "never") -> str:
    """A number with its error: '1.23 ± .04', '1.2 (1.1 to 1.6)' where it has an interval, '1.234 exact'.

    A norm that its error doesn't distinguish from 0 gives '0 within its error', NaN gives '?'.
    """
    value, se = number["value"], number.get("se")
    if number.get("zero"):
        return "0 within its error" if not se or not math.isfinite(se) else f"0 within its error ({se:.2g})"
    if number.get("exact"):
        return f"{value:.4g} exact"
    if not math.isfinite(value):
        return infinite if value > 0 else "?"
    low, high = number.get("interval") or (math.nan, math.nan)
    if math.isfinite(low) and math.isfinite(high) and low < high:
        digits = max(0, 1 - math.floor(math.log10(high - low)))
        form = f".{digits}f" if digits < 7 and abs(value) < 1e6 else ".2e"
        return f"{value:{form}} ({low:{form}} to {high:{form}})"
    if se is None or not math.isfinite(se) or se == 0:
        return f"{value:.3g}"
    digits = max(0, 1 - math.floor(math.log10(se)))
    return f"{value:.{digits}f} ± {se:.{digits}f}" if digits < 7 and abs(value) < 1e6 else f"{value:.2e} ± {se:.0e}"

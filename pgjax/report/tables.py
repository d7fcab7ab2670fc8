"""The summary of a run in; a table for the terminal out."""

from typing import Any

from pgjax.packages import importing
from pgjax.report.summary import describe


def table(summary: dict[str, Any], most: int = 20) -> Any:
    """A rich table of the final returns, one row for each setting; of more than `most`, the best by IQM."""
    with importing("rich"):
        from rich.table import Table

    shown, caption = summary["settings"], None
    if len(shown) > most:
        score = lambda row: row["stochastic"]["iqm"] if "stochastic" in row else float("-inf")  # noqa: E731
        shown = sorted(shown, key=score, reverse=True)[:most]
        count = len(summary["settings"])
        caption = f"the best {most} of {count} settings by IQM; {count - most} more are in summary.json"
    out = Table(
        title=f"final return, {summary['eval_episodes']} whole episodes for each seed",
        title_justify="left",
        caption=caption,
        caption_justify="left",
    )
    lost = ("failed", "stopped") if any(row.get("stopped") for row in summary["settings"]) else ("failed",)
    for column in ("setting", "IQM", "95 % interval", "mean", "median", "greedy IQM", *lost):
        out.add_column(column, justify="left" if column == "setting" else "right", no_wrap=column != "setting")
    for row in shown:
        counts = [str(n) for n in (len(row["failed_seeds"]), row.get("stopped", 0))[: len(lost)]]
        if "stochastic" not in row:
            out.add_row(describe(row["setting"]) or "default", *["-"] * 5, *counts)
            continue
        s = row["stochastic"]
        low, high = s["iqm_95"]
        numbers = (f"{s['iqm']:.1f}", f"{low:.1f} to {high:.1f}", f"{s['mean']:.1f}", f"{s['median']:.1f}")
        out.add_row(describe(row["setting"]) or "default", *numbers, f"{row['greedy']['iqm']:.1f}", *counts)
    return out

"""Prints the summary of a run: a table for the terminal, and the lanes that it leaves out."""

from collections.abc import Sequence
from typing import Any

from pgjax.analysis.summary import counted, descriptions, few
from pgjax.dependencies import importing


def table(summary: dict[str, Any], most: int = 20) -> Any:
    """A rich table of the final returns, one row for each setting; of more than `most`, the best by IQM.

    Its title has the number of seeds in the statistics; a line below the table warns where they are few.
    """
    with importing("rich"):
        from rich.table import Table

    settings = summary["settings"]
    names = [name or "default" for name in descriptions([row["setting"] for row in settings])]
    shown, captions = list(range(len(settings))), []
    if len(shown) > most:
        scores = [row["stochastic"]["iqm"] if "stochastic" in row else float("-inf") for row in settings]
        shown = sorted(shown, key=scores.__getitem__, reverse=True)[:most]
        count = len(settings)
        captions.append(f"the best {most} of {count} settings by IQM; {count - most} more are in summary.json")
    finals = [_finals(row) for row in settings]
    captions.append(few([scored for scored, _ in finals]))
    out = Table(
        title=f"final return over {_seeds(finals)}, {summary['eval_episodes']} whole episodes for each",
        title_justify="left",
        caption="\n".join(filter(None, captions)) or None,
        caption_justify="left",
    )
    counts = {"failed": [len(row["failed_seeds"]) for row in settings]}
    counts["no score"] = [len(row.get("unscored_seeds", ())) for row in settings]
    counts["stopped"] = [row.get("stopped", 0) for row in settings]
    counts = {kind: found for kind, found in counts.items() if kind == "failed" or any(found)}
    for column in ("setting", "IQM", "95 % interval", "mean", "median", "greedy IQM", "seeds", *counts):
        out.add_column(column, justify="left" if column == "setting" else "right", no_wrap=column != "setting")
    for h in shown:
        numbers = ["-"] * 5
        if "stochastic" in settings[h]:
            s = settings[h]["stochastic"]
            numbers = [_number(s["iqm"]), " to ".join(map(_number, s["iqm_95"] or ())) or "-"]
            numbers += [_number(s["mean"]), _number(s["median"])]
            numbers.append(_number(settings[h]["greedy"]["iqm"]) if "greedy" in settings[h] else "-")
        out.add_row(names[h], *numbers, counted(*finals[h]), *(str(found[h]) for found in counts.values()))
    return out


def lost(summary: dict[str, Any], most: int = 20) -> list[str]:
    """Lines that name the lanes without a final return: lanes that failed, and lanes whose evaluation overflowed."""
    settings = summary["settings"]
    names = descriptions([row["setting"] for row in settings])
    kinds = {"failed_seeds": "failed lanes", "unscored_seeds": "lanes without a finite score"}
    out = []
    for kind, what in kinds.items():
        rows = zip(names, settings, strict=True)
        found = [f"{name} seed={seed}".strip() for name, row in rows for seed in row.get(kind, ())]
        if found:
            rest = f"; and {len(found) - most} more" if len(found) > most else ""
            out.append(f"{what}: {'; '.join(found[:most])}{rest}")
    return out


def _finals(row: dict[str, Any]) -> tuple[int, int]:
    """The number of a setting's seeds that have a final return, and the number of all its seeds."""
    seeds = row.get("stochastic", {}).get("seeds", ())
    return sum(x is not None for x in seeds), row.get("seeds", len(seeds))


def _number(value: float) -> str:
    return f"{value:.1f}" if abs(value) < 1e9 else f"{value:.4g}"


def _seeds(finals: Sequence[tuple[int, int]]) -> str:
    """'8 seeds', '7 of 8 seeds', '5 to 8 of 8 seeds'."""
    scored, seeds = [n for n, _ in finals], max(n for _, n in finals)
    least, greatest = min(scored), max(scored)
    said = counted(greatest, seeds) if least == greatest else f"{least} to {greatest} of {seeds}"
    return f"{said} seed{'s' * (seeds != 1)}"

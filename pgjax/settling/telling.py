"""A settlement as JSON, and as the rows of a table."""

from typing import Any

import numpy as np

from pgjax.settling.schedule import following
from pgjax.settling.settlement import Settlement

HEAD = ("pairs of seeds", "mean of A", "mean of B", "mean of A - B", "interval", "IQM of A - B", "interval")


def as_json(found: Settlement) -> dict[str, Any]:
    """The content of verdict.json: verdict, intervals after the last round, and the return of every seed."""
    out: dict[str, Any] = {
        "verdict": found.verdict,
        "after": found.after,
        "told": found.told,
        "method": found.methods[found.question["by"]],
    }
    for name, sequence in (("mean", found.mean), ("iqm", found.iqm)):
        if sequence is not None:
            ends = {part: float(getattr(sequence, part)[-1]) for part in ("estimate", "low", "high")}
            out[name] = {part: x if np.isfinite(x) else None for part, x in ends.items()}
    out["without_final_return"] = dict(zip("ab", found.lost, strict=True))
    out["seeds"] = found.seeds
    out |= {
        name: [x if np.isfinite(x) else None for x in row.tolist()]
        for name, row in zip("ab", found.returns, strict=True)
    }
    return out


def rows(found: Settlement) -> list[list[str]]:
    """A row of HEAD for each round, and one for the number of pairs that decided."""
    if found.mean is None or found.iqm is None:
        return []
    seeds, batch, rounds = len(found.seeds), found.question["batch"], [0]
    while rounds[-1] < seeds:
        rounds.append(following(rounds[-1], batch, seeds))
    # Without bounds a seed that has no final return makes no pair.
    counts = np.isfinite(found.returns).all(axis=0) if found.question["bounds"] is None else np.ones(seeds, bool)
    pairs = {int(counts[:end].sum()) for end in rounds[1:]} - {0}
    out = []
    for n in sorted({*pairs, *([found.after] if found.after else [])}):
        row = [f"{n}{' (decided)' if n == found.after else ''}", *(_number(x) for x in found.pairs[:, :n].mean(axis=1))]
        for sequence in (found.mean, found.iqm):
            low, high = sequence.low[n - 1], sequence.high[n - 1]
            ends = f"{_number(low)} to {_number(high)}" if np.isfinite(low) else "-"
            row += [_number(sequence.estimate[n - 1]), ends]
        out.append(row)
    return out


def _number(value: float) -> str:
    return f"{value:.1f}" if 10 <= abs(value) < 1e6 else f"{value:.3g}"

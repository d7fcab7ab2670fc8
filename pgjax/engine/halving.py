"""Successive halving: scores the settings at the end of each rung, and decides which of them go on."""

from typing import Any

import numpy as np

from pgjax.engine import chunks
from pgjax.engine.checkpoints import Archive
from pgjax.sweeps.group import Group
from pgjax.sweeps.plan import Plan


def ends(updates: int, length: int, settings: int, eta: int) -> list[int]:
    """The numbers of updates after which the rungs end: updates / eta^k as whole segments, and all of them.

    There is one rung more than the number of times that `settings` can be divided by eta (Jamieson & Talwalkar 2016,
    alg. 1), but no rung shorter than a segment.
    """
    found = {updates}
    k = 1
    while settings >= eta**k and (at := round(updates / eta**k / length) * length) >= length:
        found.add(at)
        k += 1
    return sorted(found)


def rungs(group: Group, settings: int, eta: int) -> list[int]:
    """`ends` of a group in a run of `settings` settings in all."""
    return ends(group.updates, chunks.segment(group.updates), settings, eta)


def score(curves: np.ndarray) -> float:
    """The interquartile mean over seeds of the mean return in the last quarter of the curves [S, U].

    A seed that failed, or completed no episode there, scores -inf.
    """
    tail = curves[:, -max(1, curves.shape[1] // 4) :]
    counted = np.isfinite(tail).sum(axis=1)
    mean = np.where(np.isfinite(tail), tail, 0.0).sum(axis=1) / np.maximum(counted, 1)
    values = np.sort(np.where(counted > 0, mean, -np.inf))
    cut = len(values) // 4
    return float(values[cut : len(values) - cut].mean())


def kept(scores: list[float], eta: int) -> list[int]:
    """The places of the best 1 / eta of the settings, at least one; of equal ones the earlier."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    return sorted(int(i) for i in order[: max(1, len(scores) // eta)])


def decision(plan: Plan, archive: Archive, schedule: chunks.Schedule, stage: int, eta: int) -> dict[str, Any]:
    """The decision after a stage: its settings (group, h), their scores, and the places of the settings that go on.

    Scores use the whole curves, from the first update to the end of this rung. Where the schedule already has the
    next rung, the settings that go on are those of that rung.
    """
    seen: dict[tuple[int, int, int], list[np.ndarray]] = {}  # group, h, seed -> the curve of each rung
    returns: dict[tuple[int, int], list[np.ndarray]] = {}
    for number, chunk in enumerate(schedule.chunks):
        if chunk.stage > stage:
            continue
        kept_there = archive.measured(number)
        if kept_there is None or kept_there.update < chunk.last:
            raise ValueError(f"halving: chunk {number} has not come to the end of its rung")
        for (h, seed), curve in zip(chunk.lanes, kept_there.metrics["episode_return"], strict=False):  # and padding
            curves = seen.setdefault((chunk.group, h, seed), [])
            curves.append(curve)
            if chunk.stage == stage:
                returns.setdefault((chunk.group, h), []).append(np.concatenate(curves))
    settings = sorted(returns)
    scores = [score(np.stack(returns[one])) for one in settings]
    labels = [plan.groups[g].settings[h] for g, h in settings]
    gone_on = {(chunk.group, h) for chunk in schedule.chunks if chunk.stage == stage + 1 for h, _ in chunk.lanes}
    places = [i for i, one in enumerate(settings) if one in gone_on] if gone_on else kept(scores, eta)
    return {"stage": stage, "settings": settings, "labels": labels, "scores": scores, "kept": places}


def following(plan: Plan, schedule: chunks.Schedule, found: dict[str, Any], eta: int) -> list[chunks.Chunk]:
    """The chunks of the next rung; [] after the last."""
    total, more = sum(len(group.settings) for group in plan.groups), []
    chosen = [found["settings"][i] for i in found["kept"]]
    for g, group in enumerate(plan.groups):
        at, stage = rungs(group, total, eta), found["stage"] + 1
        lanes = [(h, seed) for one, h in chosen if one == g for seed in plan.seeds]
        if lanes and stage < len(at):
            more += chunks.split(g, stage, at[stage - 1], at[stage], lanes, schedule.widths[g])
    return more

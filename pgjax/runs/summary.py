"""Collects the checkpoints of a run into its dataset and the numbers of summary.json."""

import pathlib
from typing import Any

import numpy as np

from pgjax import analysis
from pgjax.engine import chunks, halving
from pgjax.engine.checkpoints import Archive, Checkpoint
from pgjax.runs.dataset import Store
from pgjax.runs.run import Run
from pgjax.sweeps.plan import Plan


def collect(
    chosen: Plan,
    config: dict[str, Any],
    schedule: chunks.Schedule,
    archive: Archive,
    path: pathlib.Path | None,
    eta: int | None,
    clock: dict[str, float],
    errors: dict[int, str],
) -> tuple[Run, set[int]]:
    """The run, with the metrics and the evaluation of its chunks so far and the chunks that have not ended.

    Args:
      eta: of the halving, or None.
      clock: seconds that this process spent.
      errors: chunk -> its last error, where it was given up.
    """
    store, done, seconds, unsound = Store(chosen), [0] * len(chosen.groups), 0.0, set()
    ends, newest = [group.updates for group in chosen.groups], schedule.chunks[-1]
    for number, chunk in enumerate(schedule.chunks):
        kept, final = archive.measured(number), chunk.last == ends[chunk.group]
        unsound |= set() if complete(chosen, chunk, kept) else {number}
        if kept is not None:
            # Ignore evaluations made before the run was extended: they are not of the final policy.
            store.add(chunk, kept.metrics, kept.finals if final else {})
            done[chunk.group] = max(done[chunk.group], kept.update)
            seconds += kept.seconds
    ended = newest.last == ends[newest.group] and not unsound  # otherwise there is a rung to come
    decisions = []
    known = min((schedule.chunks[number].stage for number in unsound), default=newest.stage)  # stages that are whole
    for stage in range(min(known, newest.stage) if eta else 0):
        decisions.append(halving.decision(chosen, archive, schedule, stage, eta or 0))
        for i, (g, h) in enumerate(decisions[-1]["settings"]):
            if i not in decisions[-1]["kept"]:
                store.stop(g, [h])
    run = Run(config, path, archive)
    run.plan, run.schedule, run.metrics = chosen, schedule, store.dataset()
    settings = analysis.summarise(run.metrics)
    trained = float(np.nansum(np.nanmax(np.nan_to_num(store.env_steps), axis=-1)))
    run.summary = {
        "algorithm": config["algorithm"],
        "env": config["env"],
        "interrupted": not ended,
        "lanes": int(store.finite.size),
        "failed_lanes": int((~store.finite).sum()),
        "unscored_lanes": sum(len(row["unscored_seeds"]) for row in settings),
        "eval_episodes": max(group.config.eval_episodes for group in chosen.groups),
        "updates": done,
        "widths": schedule.widths,
        "env_steps": trained,
        **clock,  # of this process
        "chunk_seconds": seconds,  # training and evaluating, of every process that had a part in it
        "env_steps_per_second": trained / seconds if seconds else None,
        "halving": decisions,
        "extended": schedule.extended,
        "failed_chunks": {str(number): failed(chosen, schedule, number, text, path) for number, text in errors.items()},
        "settings": settings,
    }
    return run, unsound


def complete(chosen: Plan, chunk: chunks.Chunk, kept: Checkpoint | None) -> bool:
    """Whether the newest sound checkpoint of a chunk is that of its end, with the evaluation if training ends there."""
    if kept is None or kept.update < chunk.last:
        return False
    return bool(kept.finals) or chunk.last != chosen.groups[chunk.group].updates


def failed(chosen: Plan, schedule: chunks.Schedule, number: int, error: str, path: pathlib.Path | None) -> str:
    """A line that names a chunk that was given up: its first lanes, its last error, and its log."""
    chunk = schedule.chunks[number]
    lanes = [{**chosen.groups[chunk.group].settings[h], "seed": seed} for h, seed in chunk.lanes]
    shown = ", ".join(" ".join(f"{name}={value}" for name, value in lane.items()) for lane in lanes[:2])
    more = f" and {len(lanes) - 2} more" if len(lanes) > 2 else ""
    log = "" if path is None else f"; see {path / 'work' / 'logs' / f'{number:05}.log'}"
    return f"chunk {number} ({shown}{more}) failed three times: {error}{log}"

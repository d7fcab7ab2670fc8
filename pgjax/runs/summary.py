"""Collects the checkpoints of a run into its dataset and the numbers of summary.json."""

import pathlib
from typing import Any

import numpy as np

from pgjax import analysis
from pgjax.engine import chunks, halving
from pgjax.engine.checkpoints import Archive
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
) -> Run:
    """The run, with the metrics and the evaluation of its chunks so far.

    Args:
      eta: of the halving, or None.
      clock: seconds that this process spent.
    """
    store, done, seconds = Store(chosen), [0] * len(chosen.groups), 0.0
    ends, newest = [group.updates for group in chosen.groups], schedule.chunks[-1]
    ended = newest.last == ends[newest.group]  # otherwise there is a rung to come
    for number, chunk in enumerate(schedule.chunks):
        kept, final = archive.measured(number), chunk.last == ends[chunk.group]
        ended = ended and kept is not None and kept.update >= chunk.last and (bool(kept.finals) or not final)
        if kept is not None:
            # Ignore evaluations made before the run was extended: they are not of the final policy.
            store.add(chunk, kept.metrics, kept.finals if final else {})
            done[chunk.group] = max(done[chunk.group], kept.update)
            seconds += kept.seconds
    decisions = []
    for stage in range(newest.stage if eta else 0):
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
        "settings": settings,
    }
    return run

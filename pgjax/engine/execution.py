"""Checks how a run is to be carried out: memory, devices, checkpoints, halving and logging."""

import math
import pathlib
from typing import Any, NamedTuple

import jax

from pgjax.declarations import Role
from pgjax.engine import checkpoints, halving, loggers, memory, processes
from pgjax.engine.programs import SHARDS
from pgjax.hyperparameters import value_of
from pgjax.sweeps.plan import Plan
from pgjax.sweeps.values import whole


class Execution(NamedTuple):
    """How a run is carried out; of these fields only the width may change its numbers."""

    memory: float | None = None  # bytes; None is a share of the memory of the device
    width: int | None = None  # lanes of the compiled program on each device; None is as many as fit the memory
    devices: int | None = None  # of this process; None is all
    shard: str = "lanes"  # what devices share: the lanes, or the environments of a large agent
    checkpoint: float | None = None  # seconds between two checkpoints, at the ends of segments; None as is cheap
    snapshots: int = 0  # checkpoints that are kept for good, besides the last
    halving: int | None = None  # eta: the best 1 / eta of the settings go on after each rung
    segment: int | None = None  # updates of one call of the program; None is a fortieth, if that divides them
    log: str | None = None  # the logger of the run while it trains: see `loggers`
    log_lanes: bool = False  # log every lane separately


def chosen_execution(
    out: str | pathlib.Path | None,
    budget: Any,
    width: Any,
    devices: Any,
    shard: str,
    checkpoint: float | None,
    snapshots: Any,
    eta: Any,
    log: str | None,
    log_lanes: bool,
) -> Execution:
    """The Execution of a run in the folder `out`, each of the user's values in its type.

    Raises:
      ValueError: for a value that can't be, whatever the plan.
    """
    snapshots = whole("snapshots", snapshots, least=0) or 0
    for name, value in {"snapshots": snapshots, "log": log}.items():
        if value and out is None:
            raise ValueError(f"{name}={value} needs a run folder to be written to; give out")
    if log_lanes and not log:
        raise ValueError("log_lanes=True needs log='tensorboard' or 'wandb'")
    if shard not in SHARDS:
        raise ValueError(f"shard must be one of {', '.join(SHARDS)}; got {shard!r}")
    number = isinstance(checkpoint, (int, float)) and not isinstance(checkpoint, bool)
    if checkpoint is not None and not (number and 0 <= checkpoint < math.inf):
        raise ValueError(f"checkpoint must be a number of seconds, 0 or more, got {checkpoint!r}")
    if width is not None and budget is not None:
        raise ValueError("give memory, which finds the width, or width, not both")
    return Execution(
        memory=memory.checked_budget(memory.parse(budget), processes.devices(whole("devices", devices))),
        width=whole("width", width),
        # With shard='envs' the number of devices changes the result, so it is recorded with the run.
        devices=len(processes.devices(whole("devices", devices))) if shard == "envs" else whole("devices", devices),
        shard=shard,
        checkpoint=None if checkpoint is None else float(checkpoint),
        snapshots=snapshots,
        halving=whole("halving", eta, least=2),
        log=log,
        log_lanes=log_lanes,
    )


def logger(execution: Execution, path: str | pathlib.Path | None) -> loggers.Logger | None:
    """The logger that writes into the folder of a run, if it has one."""
    if execution.log is None or path is None:
        return None
    return loggers.make_logger(execution.log, path, execution.log_lanes)


def check_fit(chosen: Plan, execution: Execution) -> None:
    """ValueError where the plan can't be carried out so: it doesn't fit the memory, the devices or the rungs."""
    found, settings = processes.devices(execution.devices), sum(len(g.settings) for g in chosen.groups)
    devices, most = len(found), max(group.updates for group in chosen.groups)
    if execution.snapshots > most:
        raise ValueError(f"snapshots={execution.snapshots} is more than the {most} updates of the run; give less")
    room = memory.there(found) * (1 if found[0].platform == "cpu" else devices)
    for group in chosen.groups:
        width, config = execution.width or 1, group.config
        leaves = jax.tree.leaves(checkpoints.kept_shapes(group, 1))
        if (needed := width * sum(x.size * x.dtype.itemsize for x in leaves)) > room:
            sizes = [f"num_envs={config.num_envs}", *[f"lag={config.lag}"] * bool(config.lag)]
            what = f"width={width}" if execution.width else f"{', '.join(sizes)} and the network"
            raise ValueError(
                f"{what}: the states of {width:,} lanes at once take {needed / 1e9:,.6g} GB, and there are "
                f"{room / 1e9:.1f} GB; give less"
            )
    if execution.halving:
        if settings < execution.halving:
            raise ValueError(f"halving={execution.halving} needs as many settings to choose from, got {settings}")
        rungs = {len(halving.rungs(group, settings, execution.halving)) for group in chosen.groups}
        if rungs == {1}:
            raise ValueError(
                f"halving={execution.halving} leaves no rung in {most} updates; give more, or leave it out"
            )
        if len(rungs) > 1:
            raise ValueError(
                f"halving={execution.halving}: groups with {' and '.join(str(g.updates) for g in chosen.groups)} "
                "updates would have different numbers of rungs; give all groups the same number of updates"
            )
    for group in chosen.groups:
        steps = group.updates * group.steps_per_update
        warmup = value_of(group.algorithm.estimator, Role.WARMUP, 0)
        if warmup > steps:
            raise ValueError(f"warmup={warmup} is longer than the {steps} steps of the run: nothing would be learned")
    for config in (group.config for group in chosen.groups if execution.shard == "envs"):
        if config.num_envs % devices:
            raise ValueError(f"shard='envs': num_envs={config.num_envs} can't be split over {devices} devices")
        if config.generator == "philox4x32" and devices > 1:
            raise ValueError("shard='envs': XLA can't split generator='philox4x32'; use 'threefry2x32'")
        if config.rollout != "unroll":
            raise ValueError("shard='envs' splits a stream of environments, and rollout is 'episodes'")

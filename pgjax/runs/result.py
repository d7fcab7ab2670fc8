"""Metrics of lanes in; a labelled dataset, and the folder of a run, out."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from pgjax.engine import checkpoints, chunks
from pgjax.engine.checkpoints import Archive, kept_shapes, shapes
from pgjax.envs import with_params
from pgjax.runs.dataset import coordinates
from pgjax.sweeps.plan import Group, Plan
from pgjax.types import Env, Policy, PyTree


@dataclasses.dataclass
class Result:
    """What a run came to.

    Attributes:
      metrics: an xarray Dataset; its dimensions are every setting given as a list (or `setting`, where
        a list of settings was), `seed`, `update` and, for the evaluation after training, `episode`.
        `env_steps` is a coordinate.
      summary: what summary.json holds.
      path: the run folder, or None.
      interrupted: whether the run was stopped before its end.
      signal: number of the signal that asked this process to stop, if only in its last segment; else None.
    """

    metrics: Any
    summary: dict[str, Any]
    path: pathlib.Path | None
    interrupted: bool
    plan: Plan
    schedule: chunks.Schedule
    archive: Archive
    signal: int | None = None

    def lane(self, *, seed: int, **labels: Any) -> tuple[Env, Policy, PyTree]:
        """Environment, policy and parameters of one lane: `result.lane(seed=4, learning_rate=1e-3)`."""
        return lane(self.plan, self.schedule, self.archive, labels, seed)

    def sel(self, **labels: Any) -> Any:
        """The metrics of some lanes: `result.sel(learning_rate=1e-3, seed=7)`."""
        return self.metrics.sel(labels)


def find(plan: Plan, labels: dict[str, Any], seed: int) -> tuple[int, int]:
    """The group of a lane and its setting in that group."""
    for g, group in enumerate(plan.groups):
        for h, setting in enumerate(group.settings):
            if coordinates(setting) == coordinates(labels) and seed in plan.seeds:
                return g, h
    axes = {**plan.axes, "seed": plan.seeds}
    raise ValueError(f"no lane {dict(labels, seed=seed)}; the axes are {axes}")


def lane(
    plan: Plan,
    schedule: chunks.Schedule,
    archive: Archive,
    labels: dict[str, Any],
    seed: int,
    update: int | None = None,
) -> tuple[Env, Policy, PyTree]:
    """Environment, policy and parameters of one lane after `update` updates, by default at the latest there is."""
    g, h = find(plan, labels, seed)
    group = plan.groups[g]
    for number, place in reversed(chunks.history(schedule, g, (h, seed))):
        if update is None or update in archive.updates(number):
            width = schedule.widths[g]
            kept = archive.load(number, kept_shapes(group, width), update)
            if kept is not None:
                state = checkpoints.device(kept.state, shapes(group, width))
                state = jax.tree.map(lambda x, place=place: jnp.asarray(x[place]), state)
                policy, params = group.learner.policy(state.learner)
                return lane_env(group, h), policy, params
    raise ValueError(f"lane {dict(labels, seed=seed)} has no parameters: the run stopped before its turn")


def lane_env(group: Group, h: int) -> Env:
    """The environment of a group with the parameters of its setting h."""
    return group.env._replace(params=with_params(group.env, group.hypers[h].env))

"""What the user asked for in; validated groups of lanes out, each ready for one compilation.

A setting is named `part.name`, the parts being env, advantage, estimator, optimizer, updater and config, or
by its name alone where one part only has it. A list of values makes a grid. Floats are swept by vmap;
everything else is static and makes groups, one compilation each, as do environment parameters that move the bounds
of actions. A list of settings, one dict for each, is taken as it is: what a random search draws.
"""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import numpy as np

from pgjax import hyperparameters
from pgjax.algorithms import roster
from pgjax.config import RANGES, Config
from pgjax.envs.parameters import param_names
from pgjax.envs.registry import settable
from pgjax.envs.spaces import is_box, parts
from pgjax.errors import named
from pgjax.hyperparameters import Range
from pgjax.sweeps import algorithm as sweeps_algorithm
from pgjax.sweeps import environment, group, names
from pgjax.sweeps.group import PARTS, Group
from pgjax.sweeps.values import EVERY, bounded, seed_numbers, whole
from pgjax.types import Env, Policy


class Plan(NamedTuple):
    """A run as it was asked for: groups of lanes, and how their settings are named."""

    groups: list[Group]
    axes: dict[str, list[Any]]  # label -> values of every list, or "setting" -> numbers of the points
    seeds: list[int]
    points: list[dict[str, Any]] | None  # label -> value for each setting of a list of settings
    chosen: dict[str, Any]  # "fixed", "axes" and "points", by full name: what `plan` needs to make this again


def plan(
    algorithm: Any,
    env: Any,
    *,
    seeds: int | list[int] = 1,
    seed: int = 0,
    steps: int | None = None,
    updates: int | None = None,
    settings: dict[str, Any] | list[dict[str, Any]] | None = None,
    policy: Callable[[Env, Config], Policy] | None = None,
    varied: Collection[str] = (),
    recorded: bool = False,
    **plugs: Any,
) -> Plan:
    """Check everything that can be checked before anything is compiled or written.

    Args:
      algorithm: a name of the roster, or an Algorithm or a `roster.Entry` of one's own.
      env: a registered name, an Env, or a function without arguments that returns an Env or a gymnax
        environment.
      seeds: how many, counted from `seed`; or the list of them.
      steps: environment steps of each lane, rounded up to whole updates; updates: their number
        instead, each one rollout and all its gradient steps.
      settings: name -> value or list of values, of which all combinations are tried; or a list of
        settings, each name -> value, all of the same names.
      policy: (env, config) -> Policy; by default the algorithm's own, or the network that config names.
      varied: full names that belong to each point of a list of settings even where all points agree in them: of a
        plan that is made again, of some of its points.
      recorded: whether a finished run had these settings; then no range is checked.
      plugs: loss, advantage, estimator, optimizer, updater: in place of the algorithm's own, each an object or a name
        that `pgjax list` shows (of an estimator or an updater, an object). A loss goes in place of the policy loss,
        inside the algorithm's estimator. See `algorithms.replacement.with_plugs`.

    Raises:
      ValueError, TypeError: naming the argument, the value and the fix.
    """
    if isinstance(settings, list) and not settings:
        raise ValueError("settings: the list of settings is empty")
    row = sweeps_algorithm.row(algorithm, policy, plugs)
    numbers = seed_numbers(seeds, seed)
    if steps is not None and updates is not None:
        raise ValueError("give steps or updates, not both")
    steps, updates = whole("steps", steps), whole("updates", updates)
    known, ranges = _known(row, env), _ranges(row)
    given = names.settings(settings, known, lambda full: None if recorded else ranges.get(full, EVERY), varied)
    bounded(f"{given.size:,} settings x {len(numbers):,} seeds", given.size * len(numbers))
    table = given.table()

    labels = {full: full.partition(".")[2] if names.unique(full, known) else full for full in table[0]}
    points = [{labels[full]: x for full, x in one.items()} for one in table]
    selectors = [{"setting": i} for i in range(len(table))] if given.listed else points
    built = [
        group.make_group(
            row=row,
            env=env,
            make_policy=row.policy if policy is None else policy,
            chosen={**given.fixed, **dict(static)},
            points=[table[i] for i in members],
            selectors=[selectors[i] for i in members],
            known=known,
            taken={"setting", *labels.values()},
            steps=steps,
            updates=updates,
        )
        for (static, _), members in _members(env, given.fixed, table, known).items()
    ]
    chosen = {
        "fixed": {**_defaults(known, list(table[0])), **given.fixed},
        "axes": given.axes,
        "points": table if given.listed else None,
    }
    shown = {"setting": list(range(len(table)))} if given.listed else {labels[f]: x for f, x in given.axes.items()}
    return Plan(built, shown, numbers, points if given.listed else None, chosen)


def _defaults(known: names.Known, but: list[str]) -> dict[str, Any]:
    """What a run records beside the settings, since a later version may have other defaults.

    Parameters of an environment are the environment's own to record.
    """
    return {
        f"{part}.{name}": value
        for part in PARTS[1:]
        for name, value in known.get(part, {}).items()
        if f"{part}.{name}" not in but and (part == "config" or isinstance(value, (int, float, str)))
    }


def _members(
    env: Any, fixed: dict[str, Any], table: list[dict[str, Any]], known: names.Known
) -> dict[tuple[Any, Any], list[int]]:
    """(static choices, bounds of actions) -> numbers of the settings that share them, and so a program."""
    found: dict[tuple[Any, Any], list[int]] = {}
    for i, (one, bounds) in enumerate(zip(table, _bounds(env, fixed, table, known), strict=True)):
        static = tuple((k, v) for k, v in one.items() if not names.swept(k, known))
        found.setdefault((static, bounds), []).append(i)
    return found


def _bounds(env: Any, fixed: dict[str, Any], table: list[dict[str, Any]], known: names.Known) -> list[Any]:
    """For each setting something that tells the bounds of its actions: networks are made in their units."""

    def bounds(values):
        space = environment.made(env, names.part("env", {**fixed, **values})).action_space
        boxes = [part for part in jax.tree.leaves(parts(space)) if is_box(part)]
        return tuple(np.asarray(x).tobytes() for box in boxes for x in (box.low, box.high))

    swept = [full for full in table[0] if full.startswith("env.") and names.swept(full, known)]
    if not swept or not (usual := bounds({})):
        return [()] * len(table)
    ends = {full: [pick(one[full] for one in table) for pick in (min, max)] for full in swept}
    moving = [full for full in swept if any(bounds({full: x}) != usual for x in ends[full])]
    return [bounds({full: one[full] for full in moving}) if moving else usual for one in table]


def _known(row: roster.Entry, env: Any) -> dict[str, dict[str, Any]]:
    """Part -> name -> default of everything that can be set."""
    with named(f"env {env!r}"):
        parameters = settable(env) if isinstance(env, str) else dict(param_names(environment.made(env, {}).params))
    if "max_steps_in_episode" in parameters:
        # The length of a scan, so never swept, though some environments give it as a float.
        parameters["max_steps_in_episode"] = int(parameters["max_steps_in_episode"])
    return {
        "env": parameters,
        **{part: hyperparameters.hyperparameters(plug) for part, plug in hyperparameters.plugs(row.algorithm).items()},
        "config": dataclasses.asdict(row.config),
    }


def _ranges(row: roster.Entry) -> dict[str, Range]:
    """Full name -> where its values must lie, as the plugs declare it."""
    declared = {part: hyperparameters.ranges(plug) for part, plug in hyperparameters.plugs(row.algorithm).items()}
    declared["config"] = dict(RANGES)
    return {f"{part}.{name}": found for part, own in declared.items() for name, found in own.items()}

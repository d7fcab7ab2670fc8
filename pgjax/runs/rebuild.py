"""Makes the plan of a run again from its config.json, and finds whether its user's code has changed since."""

import pathlib
import reprlib
from typing import Any

from pgjax.engine import chunks
from pgjax.envs.parameters import param_names
from pgjax.envs.spaces import is_box
from pgjax.errors import unknown
from pgjax.policies.distributions import units
from pgjax.runs import folder, record, sources
from pgjax.sweeps import plan as sweeps_plan
from pgjax.sweeps import user_code
from pgjax.sweeps.plan import Plan
from pgjax.sweeps.user_code import OBJECTS

NEEDED = ("objects", "fixed", "axes", "points", "execution", "command")


def objects(path: pathlib.Path, config: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The `OBJECTS` of a run: those `given`, the others by name or imported again; None for one that it has not.

    Raises:
      TypeError: for another object.
      ValueError: for one that can't be imported again.
    """
    for name in given:
        if name not in OBJECTS:
            raise TypeError(unknown("no object", name, OBJECTS))
    folder.require(path / "config.json", config, NEEDED)
    return {name: _object(path, config, name, given.get(name)) for name in OBJECTS}


def plan(path: pathlib.Path, config: dict[str, Any], objects: dict[str, Any]) -> Plan:
    """The plan that a config describes, made of its `objects`.

    Raises:
      ValueError: where the plan differs from the run's, because pgjax or an object has changed since.
    """
    # JSON knows no tuples; a list of values is an axis.
    value = lambda x: tuple(x) if isinstance(x, list) else x  # noqa: E731
    fixed = {name: value(x) for name, x in config["fixed"].items()}
    chosen: Any = {**fixed, **{name: [value(x) for x in values] for name, values in config["axes"].items()}}
    if config["points"] is not None:
        chosen = [{**fixed, **{name: value(x) for name, x in point.items()}} for point in config["points"]]
    varied = (config["points"] or [{}])[0]
    made = sweeps_plan.plan(seeds=config["seeds"], updates=1, settings=chosen, varied=varied, recorded=True, **objects)
    if config.get("format", 1) < record.FORMAT and objects["policy"] is None:
        _check_units(path, config, made)
    if len(made.groups) != len(config["groups"]):
        counts = f"{len(config['groups'])} groups of settings and would have {len(made.groups)} now"
        raise ValueError(f"path: {str(path)!r} has {counts}; use the pgjax that wrote it ({_wrote(config)})")
    groups = []
    for group, recorded in zip(made.groups, config["groups"], strict=True):
        before, now = recorded["env"], folder.plain(param_names(group.env.params))
        for name in {**before, **now}:
            if before.get(name) != now.get(name):
                was, found = reprlib.repr(before.get(name)), reprlib.repr(now.get(name))
                raise ValueError(f"env: parameter {name!r} was {was} in the run and is {found} now; pass the same env=")
        groups.append(group._replace(updates=recorded["updates"]))
    return made._replace(groups=groups)


def scheduled(plan: Plan, schedule: chunks.Schedule) -> Plan:
    """The plan with the seeds and updates that the schedule has by now."""
    groups = [group._replace(updates=u) for group, u in zip(plan.groups, schedule.updates, strict=True)]
    return plan._replace(seeds=schedule.seeds, groups=groups)


def edited(config: dict[str, Any], objects: dict[str, Any]) -> str | None:
    """Which source files of the run's objects have changed since it was begun, in words; None where none has."""
    changes: dict[str, list[str]] = {}  # files -> the objects that are made of them
    for name, thing in objects.items():
        entry = config["objects"].get(name, {})
        before = entry.get("sources")
        if before and (files := sources.changed(before, sources.digests(thing, entry["spec"]))):
            changes.setdefault(", ".join(files), []).append(name)
    said = [f"{', '.join(names)}: {files}" for files, names in changes.items()]
    return f"{'; '.join(said)} has changed since the run was begun" if said else None


def _check_units(path: pathlib.Path, config: dict[str, Any], made: Plan) -> None:
    """ValueError where the parameters of a Gaussian had another meaning in the run: see `record.FORMAT`."""
    for group in made.groups:
        space = group.env.action_space
        if is_box(space) and units(space) != ((0.0,) * space.shape[0], (1.0,) * space.shape[0]):
            raise ValueError(
                f"path: {str(path)!r} holds policies whose Gaussians are not in the units of their Box of actions; "
                f"use the pgjax that wrote it ({_wrote(config)}), or train again"
            )


def _wrote(config: dict[str, Any]) -> str:
    return config.get("versions", {}).get("pgjax", "an earlier one")


def _object(path: pathlib.Path, config: dict[str, Any], name: str, given: Any) -> Any:
    if given is not None or name not in config["objects"]:
        return given
    entry = config["objects"][name]
    if "name" in entry:
        return entry["name"]
    if not entry["spec"]:
        raise ValueError(f"{name}: {config[name]!r} of {str(path)!r} can't be imported again; pass {name}= to load()")
    try:
        return user_code.load(entry["spec"], name)
    except ValueError as error:
        kept = f"; copies of the run's sources are in {path / 'sources'}" if (path / "sources").is_dir() else ""
        raise ValueError(f"{error}; pass {name}= to load(){kept}") from error

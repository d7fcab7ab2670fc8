"""A run folder in; environments, policies and saved parameters of its lanes out."""

import dataclasses
import json
import pathlib
import reprlib
import sys
from typing import Any

from pgjax.dependencies import PackageError
from pgjax.engine import chunks
from pgjax.engine.checkpoints import Folder
from pgjax.envs.parameters import param_names
from pgjax.envs.spaces import is_box
from pgjax.errors import unknown
from pgjax.policies.distributions import units
from pgjax.runs import dataset, folder, record, result, sources
from pgjax.sweeps import plan as sweeps_plan
from pgjax.sweeps import user_code
from pgjax.sweeps import values as sweeps_values
from pgjax.sweeps.plan import Plan
from pgjax.types import Env, Hypers, Policy, PyTree

OBJECTS = ("algorithm", "env", "loss", "policy")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run read back from its folder: `load(path)`.

    Attributes:
      config, summary: what config.json and summary.json hold; summary is {} for a run that was killed.
      plan: the run as `sweeps.plan.plan` checks it: algorithm, learner and config of each group.
      schedule: which lanes were trained together, from which update to which.
    """

    path: pathlib.Path
    config: dict[str, Any]
    summary: dict[str, Any]
    plan: Plan
    schedule: chunks.Schedule

    @property
    def axes(self) -> dict[str, list[Any]]:
        """Label -> values of every setting given as a list."""
        return self.plan.axes

    @property
    def seeds(self) -> list[int]:
        return self.plan.seeds

    @property
    def metrics(self) -> Any:
        """The xarray Dataset of metrics.zarr."""
        return metrics(self.path)

    @property
    def updates(self) -> list[int]:
        """After how many updates there are checkpoints, the last at the end of training.

        Groups with other numbers of updates have other points, all of them listed here: see `lane_updates`.
        """
        return sorted({u for number in range(len(self.schedule.chunks)) for u in self._archive.updates(number)})

    def lane_updates(self, *, seed: int | None = None, **labels: Any) -> list[int]:
        """The saved points of one lane."""
        return sorted({u for number, _ in self._history(labels, seed)[2] for u in self._archive.updates(number)})

    def hypers(self, *, seed: int | None = None, **labels: Any) -> Hypers:
        """The hyperparameters of one setting, scalars: `run.hypers(learning_rate=1e-3).advantage["discount"]`."""
        g, h, _ = self._history(labels, seed)
        return self.plan.groups[g].hypers[h]

    def lane(self, *, seed: int, update: int | None = None, **labels: Any) -> tuple[Env, Policy, PyTree]:
        """Environment, policy and parameters of one lane: `run.lane(seed=4, learning_rate=1e-3, update=50)`.

        Args:
          update: one of `updates`; None is the latest, the end of training where it came to its end.

        Raises:
          ValueError: for a lane or an update that isn't there, with those that are.
        """
        saved, named = self.lane_updates(seed=seed, **labels), dict(labels, seed=seed)
        if not saved:
            raise ValueError(f"lane {named} has no parameters: the run stopped before its turn")
        update = saved[-1] if update is None else update
        if update not in saved:
            raise ValueError(f"lane {named} was not saved at update {update!r}; choose from {saved}")
        return result.lane(self.plan, self.schedule, self._archive, labels, seed, update)

    @property
    def _archive(self) -> Folder:
        return Folder(self.path / "chunks")

    def _history(self, labels: dict[str, Any], seed: int | None) -> tuple[int, int, list[tuple[int, int]]]:
        seed = self.seeds[0] if seed is None else seed
        g, h = result.find(self.plan, labels, seed)
        return g, h, chunks.history(self.schedule, g, (h, seed))


def load(path: str | pathlib.Path, **objects: Any) -> Run:
    """Read a run folder.

    Args:
      path: the folder.
      objects: algorithm, env, loss, policy: what the run was given, as in `pgjax.run`. Needed only for
        objects of one's own that can't be imported again: those made inside a function or a script.

    Raises:
      ValueError: where the folder is no run's, has no parameters, or holds what can't be built again.
    """
    config, made = read(path, **objects)
    path = pathlib.Path(path)
    schedule = chunks.read(path / "chunks.json")
    if schedule is None or not any(Folder(path / "chunks").updates(i) for i in range(len(schedule.chunks))):
        raise ValueError(f"path: {str(path)!r} holds no parameters, only {_content(path)}")
    return Run(path, config, summary(path), made, schedule)


def read(path: str | pathlib.Path, edited: bool | None = None, **objects: Any) -> tuple[dict[str, Any], Plan]:
    """config.json of a run folder, and its plan as it has been scheduled since.

    Args:
      edited: whether the source of the run's own functions may have changed since; None says so on stderr.
    """
    path = sweeps_values.place("path", path)
    if not path.is_dir():
        others = [str(file.parent) for file in path.parent.glob("*/config.json")]
        raise ValueError(unknown("path: no folder", str(path), others))
    for name in objects:
        if name not in OBJECTS:
            raise TypeError(unknown("no object", name, OBJECTS))
    needed = ("objects", "algorithm", "env", "seeds", "fixed", "axes", "points", "groups", "execution", "command")
    config = _read(path, "config.json", needed)
    found = {name: _object(path, config, name, objects.get(name)) for name in OBJECTS}
    if not edited and (change := _edit(config, found)):
        if edited is not None:
            raise ValueError(f"{change}; put it back as it was, or go on with it as it is by edited (--edited)")
        print(f"pgjax: {change}", file=sys.stderr)
    return config, scheduled(planned(path, config, found), chunks.read(path / "chunks.json"))


def metrics(path: pathlib.Path) -> Any:
    """The xarray Dataset of metrics.zarr."""
    if not (path / "metrics.zarr").is_dir():
        raise ValueError(f"path: {str(path)!r} holds no metrics.zarr; pgjax resume {path} writes it")
    try:
        return dataset.load(path / "metrics.zarr")
    except PackageError:
        raise
    except Exception as error:  # whatever a torn file makes zarr and its codecs raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        where = str(path / "metrics.zarr")
        raise ValueError(f"path: {where!r} can't be read: {reason}; pgjax resume {path} writes it anew") from error


def summary(path: pathlib.Path) -> dict[str, Any]:
    """summary.json of a run folder; {} for a run that was killed."""
    return (
        _read(path, "summary.json", ("interrupted", "settings", "failed_lanes"))
        if (path / "summary.json").is_file()
        else {}
    )


def scheduled(plan: Plan, schedule: chunks.Schedule | None) -> Plan:
    """The plan with the seeds and updates that the schedule has by now."""
    if schedule is None:
        return plan
    groups = [group._replace(updates=u) for group, u in zip(plan.groups, schedule.updates, strict=True)]
    return plan._replace(seeds=schedule.seeds, groups=groups)


def planned(path: pathlib.Path, config: dict[str, Any], given: dict[str, Any]) -> Plan:
    """The plan that a config describes."""
    objects = {name: _object(path, config, name, given.get(name)) for name in OBJECTS}
    # JSON knows no tuples; a list of values is an axis.
    value = lambda x: tuple(x) if isinstance(x, list) else x  # noqa: E731
    fixed = {name: value(x) for name, x in config["fixed"].items()}
    chosen = {**fixed, **{name: [value(x) for x in values] for name, values in config["axes"].items()}}
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


def _check_units(path: pathlib.Path, config: dict[str, Any], made: Plan) -> None:
    """ValueError where the parameters of a Gaussian mean something else by now: see `record.FORMAT`."""
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
        raise ValueError(f"{error}; pass {name}= to load()") from error


def _edit(config: dict[str, Any], objects: dict[str, Any]) -> str | None:
    """Which of the run's objects have another source than they had, in words."""
    for name, thing in objects.items():
        before = config["objects"].get(name, {}).get("sources")
        if before and (files := sources.changed(before, sources.digests(thing))):
            return f"{name}: {', '.join(files)} has changed since the run was begun"
    return None


def _read(path: pathlib.Path, name: str, needed: tuple[str, ...]) -> dict[str, Any]:
    try:
        found = json.loads((path / name).read_text())
    except FileNotFoundError:
        raise ValueError(f"path: {str(path)!r} holds no {name}, only {_content(path)}") from None
    except ValueError as error:
        raise ValueError(f"path: {str(path / name)!r} can't be read: {error}") from error
    for key in needed:
        if not isinstance(found, dict) or key not in found:
            raise ValueError(f"path: {str(path / name)!r} has no {key!r}; an older pgjax wrote it, or another program")
    return found


def _content(path: pathlib.Path) -> str:
    return ", ".join(sorted(file.name for file in path.iterdir())) or "nothing"

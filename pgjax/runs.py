"""A run folder in; environments, policies and saved parameters of its lanes out."""

import dataclasses
import json
import pathlib
import reprlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import parsing, results, settings, sweep
from pgjax.envs.adapter import param_names
from pgjax.moments import Moments
from pgjax.plugs import unknown
from pgjax.policies import with_observation_moments
from pgjax.types import Env, Hypers, Policy, PyTree

OBJECTS = ("algorithm", "env", "loss", "policy")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run read back from its folder: `load(path)`.

    Attributes:
      config, summary: what config.json and summary.json hold; summary is {} for a run that was killed.
      plan: the run as `settings.plan` checks it: algorithm, learner and config of each group.
    """

    path: pathlib.Path
    config: dict[str, Any]
    summary: dict[str, Any]
    plan: settings.Plan
    folders: list[dict[int, pathlib.Path]]  # for each group, update -> where its parameters are

    @property
    def axes(self) -> dict[str, list[Any]]:
        """Label -> values of every setting given as a list."""
        return self.plan.axes

    @property
    def seeds(self) -> list[int]:
        return self.plan.seeds

    @property
    def updates(self) -> list[int]:
        """After how many updates parameters were saved, the last at the end of training.

        Groups with other numbers of updates have other points, all of them listed here: see `lane_updates`.
        """
        return sorted({update for folders in self.folders for update in folders})

    def lane_updates(self, *, seed: int | None = None, **labels: Any) -> list[int]:
        """The saved points of one setting."""
        return sorted(self.folders[self._find(labels, seed)[0]])

    def hypers(self, *, seed: int | None = None, **labels: Any) -> Hypers:
        """The hyperparameters of one setting, scalars: `run.hypers(learning_rate=1e-3).advantage["discount"]`."""
        g, h, _ = self._find(labels, seed)
        return self.plan.groups[g].hypers[h]

    def lane(self, *, seed: int, update: int | None = None, **labels: Any) -> tuple[Env, Policy, PyTree]:
        """Environment, policy and parameters of one lane: `run.lane(seed=4, learning_rate=1e-3, update=50)`.

        Args:
          update: one of `updates`; None is the end of training.

        Raises:
          ValueError: for a lane or an update that isn't there, with those that are.
        """
        g, h, index = self._find(labels, seed)
        group, folders, named = self.plan.groups[g], self.folders[g], dict(labels, seed=seed)
        if not folders:
            raise ValueError(f"lane {named} has no parameters: the run stopped before its turn")
        if update is None:
            update = max(folders)
            if folders[update].parent.name != "params":
                raise ValueError(f"lane {named} has no parameters of the end; choose update from {sorted(folders)}")
        if update not in folders:
            raise ValueError(f"lane {named} was not saved at update {update!r}; choose from {sorted(folders)}")
        tree = jax.tree.map(lambda x: jnp.asarray(x[index]), _restore(folders[update], group, self.seeds))
        policy = group.policy
        if "obs_moments" in tree:
            policy = with_observation_moments(policy, Moments(**tree["obs_moments"]))
        return results.lane_env(group, h), policy, tree["params"]

    def _find(self, labels: dict[str, Any], seed: int | None) -> tuple[int, int, int]:
        return results.find(self.plan, labels, self.seeds[0] if seed is None else seed)


def load(
    path: str | pathlib.Path, *, algorithm: Any = None, env: Any = None, loss: Any = None, policy: Any = None
) -> Run:
    """Read a run folder.

    Args:
      path: the folder.
      algorithm, env, loss, policy: what the run was given, as in `pgjax.run`. Needed only for objects
        of one's own that can't be imported again: those made inside a function or a script.

    Raises:
      ValueError: where the folder is no run's, has no parameters, or holds what can't be built again.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        others = [str(file.parent) for file in path.parent.glob("*/config.json")]
        raise ValueError(unknown("path: no folder", str(path), others))
    config, summary = _read(path, "config.json"), {}
    if "objects" not in config:
        raise ValueError(f"path: {str(path / 'config.json')!r} has no 'objects'; an older pgjax wrote it")
    finals = []
    if (path / "params").is_dir():
        summary = _read(path, "summary.json")
        finals = summary["updates"]
    folders = [_folders(path, g, finals) for g in range(len(config["groups"]))]
    if not any(folders):
        raise ValueError(f"path: {str(path)!r} holds no parameters, only {_content(path)}")
    given = {"algorithm": algorithm, "env": env, "loss": loss, "policy": policy}
    return Run(path, config, summary, _plan(path, config, given), folders)


def _plan(path: pathlib.Path, config: dict[str, Any], given: dict[str, Any]) -> settings.Plan:
    objects = {name: _object(path, config, name, given[name]) for name in OBJECTS}
    # JSON knows no tuples; a list of values is an axis.
    value = lambda x: tuple(x) if isinstance(x, list) else x  # noqa: E731
    fixed = {name: value(x) for name, x in config["fixed"].items()}
    axes = {name: [value(x) for x in values] for name, values in config["axes"].items()}
    made = settings.plan(seeds=config["seeds"], updates=1, settings={**fixed, **axes}, **objects)
    groups = []
    for group, recorded in zip(made.groups, config["groups"], strict=True):
        before, now = recorded["env"], results.plain(param_names(group.env.params))
        for name in {**before, **now}:
            if before.get(name) != now.get(name):
                was, found = reprlib.repr(before.get(name)), reprlib.repr(now.get(name))
                raise ValueError(f"env: parameter {name!r} was {was} in the run and is {found} now; pass the same env=")
        groups.append(group._replace(updates=recorded["updates"]))
    return made._replace(groups=groups)


def _object(path: pathlib.Path, config: dict[str, Any], name: str, given: Any) -> Any:
    if given is not None or name not in config["objects"]:
        return given
    entry = config["objects"][name]
    if "name" in entry:
        return entry["name"]
    if not entry["spec"]:
        raise ValueError(f"{name}: {config[name]!r} of {str(path)!r} can't be imported again; pass {name}= to load()")
    try:
        return parsing.load(entry["spec"], name)
    except ValueError as error:
        raise ValueError(f"{error}; pass {name}= to load()") from error


def _folders(path: pathlib.Path, g: int, finals: list[int]) -> dict[int, pathlib.Path]:
    found = {int(f.parent.name.partition("-")[2]): f for f in path.glob(f"snapshots/update-*/group{g}")}
    final = path / "params" / f"group{g}"
    return {**found, finals[g]: final} if final.is_dir() else found


def _restore(folder: pathlib.Path, group: settings.Group, seeds: list[int]) -> dict[str, PyTree]:
    """The tree of `results.saved`, as numpy arrays [L, ...]: a device may lack the room for every lane."""
    import orbax.checkpoint as ocp

    lanes = sweep.lanes(group.hypers, seeds)
    shapes = jax.eval_shape(lambda k, h: results.saved(group, sweep.init(k, group.learner, h)), *lanes)
    target = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), shapes)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            tree = checkpointer.restore(folder.absolute(), target)
        # Orbax compares the structure alone where the target is numpy's.
        if any(jax.tree.leaves(jax.tree.map(lambda x, like: x.shape != like.shape, tree, target))):
            raise ValueError("another shape")
    except ValueError as error:
        raise ValueError(
            f"policy: the parameters in {str(folder)!r} don't fit the network; pass policy= to load()"
        ) from error
    return tree


def _read(path: pathlib.Path, name: str) -> dict[str, Any]:
    try:
        return json.loads((path / name).read_text())
    except FileNotFoundError:
        raise ValueError(f"path: {str(path)!r} holds no {name}, only {_content(path)}") from None
    except ValueError as error:
        raise ValueError(f"path: {str(path / name)!r} can't be read: {error}") from error


def _content(path: pathlib.Path) -> str:
    return ", ".join(sorted(file.name for file in path.iterdir())) or "nothing"

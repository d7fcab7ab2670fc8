"""The class of a run, whether it was just made or is read back from its folder."""

import functools
import pathlib
import shlex
from typing import Any, Self

import jax
import jax.numpy as jnp

from pgjax.engine import checkpoints, chunks, files
from pgjax.engine.checkpoints import Archive, kept_shapes, shapes
from pgjax.envs import with_params
from pgjax.errors import unknown
from pgjax.runs import rebuild
from pgjax.runs.dataset import coordinates
from pgjax.runs.folder import read_json, read_metrics
from pgjax.sweeps import values
from pgjax.sweeps.plan import Plan
from pgjax.sweeps.user_code import OBJECTS
from pgjax.types import Env, Hypers, Policy, PyTree

NEEDED = ("algorithm", "env", "seeds", "groups")


class Run:
    """A run: `pgjax.run` returns it, and `pgjax.load` reads it back from its folder.

    A run that was read back reads `summary`, `metrics`, `schedule` and `plan` when they are first asked for.

    Attributes:
      config: the content of config.json.
      path: the run folder, or None.
      archive: the checkpoints.
      given: the algorithm, env, policy and plugs that were passed to `pgjax.load`.
      signal: number of the signal that asked this process to stop, if only in the run's last segment; else None.
    """

    def __init__(
        self, config: dict[str, Any], path: pathlib.Path | None, archive: Archive, given: dict[str, Any] | None = None
    ):
        self.config, self.path, self.archive, self.given = config, path, archive, given or {}
        self.signal: int | None = None

    @classmethod
    def open(cls, path: str | pathlib.Path, **given: Any) -> Self:
        """The run of a folder; only its config.json is read now.

        Raises:
          ValueError: where there is no such folder, or it has no config.json that can be read.
        """
        path = values.place("path", path)
        try:
            files.names(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            if files.remote(path):
                raise ValueError(f"path: no folder {str(path)!r}: {files.reason(path, error)}") from error
            others = [str(file.parent) for file in path.parent.glob("*/config.json")]
            raise ValueError(unknown("path: no folder", str(path), others)) from None
        except OSError as error:
            raise ValueError(f"path: can't read {str(path)!r}: {files.reason(path, error)}") from error
        config = read_json(path / "config.json", NEEDED)
        return cls(config, path, checkpoints.Folder(path / "chunks"), given)

    def __repr__(self) -> str:
        return f"Run({self.title}, path={str(self.path)!r})" if self.path else f"Run({self.title})"

    @property
    def folder(self) -> pathlib.Path:
        """The run folder.

        Raises:
          ValueError: where the run has none.
        """
        if self.path is None:
            raise ValueError("the run has no folder; give out= to pgjax.run")
        return self.path

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """The content of summary.json; {} for a run that was killed."""
        file = self.folder / "summary.json"
        return read_json(file, ("interrupted", "settings", "failed_lanes")) if files.exists(file) else {}

    @functools.cached_property
    def metrics(self) -> Any:
        """An xarray Dataset.

        Its dimensions are every setting given as a list (or `setting`, where a list of settings was given), `seed`,
        `update` and, for the evaluation after training, `episode`. `env_steps` is a coordinate.
        """
        return read_metrics(self.folder)

    @functools.cached_property
    def schedule(self) -> chunks.Schedule:
        """Which lanes were trained together, from which update to which."""
        found = chunks.read(self.folder / "chunks.json")
        if found is None:
            raise ValueError(f"path: the run in {str(self.path)!r} hasn't begun; pgjax resume {self.path} first")
        return found

    @functools.cached_property
    def objects(self) -> dict[str, Any]:
        """The algorithm, env, policy and plugs, each as the user gave it; None for one that was not given."""
        return rebuild.objects(self.folder, self.config, self.given)

    @functools.cached_property
    def plan(self) -> Plan:
        """The run as `sweeps.plan.plan` checks it: algorithm, learner and config of each group."""
        made = rebuild.plan(self.folder, self.config, self.objects)
        return rebuild.scheduled(made, self.schedule) if self.begun else made

    @property
    def begun(self) -> bool:
        """Whether there is a schedule: the run was compiled once."""
        return "schedule" in vars(self) or files.exists(self.folder / "chunks.json")

    @property
    def interrupted(self) -> bool:
        """Whether the run was stopped or killed before its end."""
        return self.summary.get("interrupted", True)

    @property
    def axes(self) -> dict[str, list[Any]]:
        """Label -> values of every setting given as a list."""
        return self.plan.axes

    @property
    def seeds(self) -> list[int]:
        """The seeds of every setting."""
        return self.plan.seeds

    @property
    def updates(self) -> list[int]:
        """The numbers of updates after which there are checkpoints, the last at the end of training.

        The list is of all groups of settings, whose checkpoints may differ; `lane_updates` is of one lane.
        """
        return sorted({u for number in range(len(self.schedule.chunks)) for u in self.archive.updates(number)})

    @property
    def title(self) -> str:
        """'ppo on CartPole-v1'."""
        return f"{self.config['algorithm']} on {self.config['env']}"

    @property
    def call(self) -> str:
        """The commands that made the run, or how `pgjax.run` was called."""
        config = self.config
        if config.get("command"):
            commands = [config["command"]]
            for extension in self.summary.get("extended", []):
                options = [word for name, x in extension.items() for word in (f"--{name}", str(x))]
                commands.append(["pgjax", "extend", str(self.path), *options])
            return " && ".join(map(shlex.join, commands))
        seeds, updates = config["seeds"], {group["updates"] for group in config["groups"]}
        given = {"seeds": seeds}
        if seeds == list(range(seeds[0], seeds[0] + len(seeds))):
            given = {"seeds": len(seeds)} | ({"seed": seeds[0]} if seeds[0] else {})
        given |= {"updates": updates.pop()} if len(updates) == 1 else {}
        given |= {"settings": config["settings"]} if config.get("settings") else {}
        given |= {name: config[name] for name in OBJECTS[2:] if name in config}
        words = [repr(config["algorithm"]), repr(config["env"]), *(f"{k}={v!r}" for k, v in given.items())]
        return f"pgjax.run({', '.join(words)})"

    def sel(self, **labels: Any) -> Any:
        """The metrics of some lanes: `run.sel(learning_rate=1e-3, seed=7)`."""
        return self.metrics.sel(labels)

    def locate(self, seed: int, labels: dict[str, Any]) -> tuple[int, int, list[tuple[int, int]]]:
        """The group of a lane, its setting in that group, and its `chunks.history`.

        Raises:
          ValueError: for a lane that the run doesn't have, with the axes that it has.
        """
        for g, group in enumerate(self.plan.groups):
            for h, setting in enumerate(group.settings):
                if coordinates(setting) == coordinates(labels) and seed in self.seeds:
                    return g, h, chunks.history(self.schedule, g, (h, seed))
        axes = {**self.axes, "seed": self.seeds}
        raise ValueError(f"no lane {dict(labels, seed=seed)}; the axes are {axes}")

    def lane_updates(self, *, seed: int | None = None, **labels: Any) -> list[int]:
        """The saved points of one lane; of the first seed by default."""
        history = self.locate(self.seeds[0] if seed is None else seed, labels)[2]
        return sorted({u for number, _ in history for u in self.archive.updates(number)})

    def hypers(self, *, seed: int | None = None, **labels: Any) -> Hypers:
        """The hyperparameters of one setting, scalars: `run.hypers(learning_rate=1e-3).advantage["discount"]`."""
        g, h, _ = self.locate(self.seeds[0] if seed is None else seed, labels)
        return self.plan.groups[g].hypers[h]

    def lane(self, *, seed: int, update: int | None = None, **labels: Any) -> tuple[Env, Policy, PyTree]:
        """Environment, policy and parameters of one lane: `run.lane(seed=4, learning_rate=1e-3, update=50)`.

        Args:
          update: one of `updates`; None is the latest, the end of training if the lane was trained to its end.

        Raises:
          ValueError: for a lane or an update that the run doesn't have, with a list of those that it has.
        """
        g, h, history = self.locate(seed, labels)
        saved = self.lane_updates(seed=seed, **labels)
        if not saved:
            raise ValueError(f"lane {dict(labels, seed=seed)} has no parameters: the run stopped before its turn")
        update = saved[-1] if update is None else update
        if update not in saved:
            raise ValueError(f"lane {dict(labels, seed=seed)} was not saved at update {update!r}; choose from {saved}")
        group, width = self.plan.groups[g], self.schedule.widths[g]
        for number, place in reversed(history):
            if update in self.archive.updates(number):
                kept = self.archive.load(number, kept_shapes(group, width), update)
                if kept is not None:
                    state = checkpoints.device(kept.state, shapes(group, width))
                    state = jax.tree.map(lambda x, place=place: jnp.asarray(x[place]), state)
                    policy, params = group.learner.policy(state.learner)
                    return group.env._replace(params=with_params(group.env, group.hypers[h].env)), policy, params
        others = [u for u in saved if u != update] or "none"
        raise ValueError(
            f"lane {dict(labels, seed=seed)}: the checkpoint of update {update} is damaged; choose from {others}"
        )

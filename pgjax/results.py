"""Metrics of lanes in; a labelled dataset, and the folder of a run, out."""

import dataclasses
import functools
import json
import math
import pathlib
import platform
import sys
from typing import Any

import jax
import numpy as np

from pgjax.envs import with_params
from pgjax.plugs import name_of
from pgjax.settings import Group, Plan
from pgjax.types import Env, Policy, PyTree


@dataclasses.dataclass
class Result:
    """What a run came to.

    Attributes:
      metrics: an xarray Dataset; its dimensions are every setting given as a list, `seed`, `update`
        and, for the evaluation after training, `episode`. `env_steps` is a coordinate.
      summary: what summary.json holds.
      path: the run folder, or None.
      interrupted: whether the run was stopped before its end.
    """

    metrics: Any
    summary: dict[str, Any]
    path: pathlib.Path | None
    interrupted: bool
    plan: Plan
    states: list[PyTree]  # for each group, the TrainState of its lanes [L]

    def lane(self, *, seed: int, **labels: Any) -> tuple[Env, Policy, PyTree]:
        """Environment, policy and parameters of one lane: `result.lane(seed=4, learning_rate=1e-3)`."""
        g, h, index = find(self.plan, labels, seed)
        if g >= len(self.states):
            raise ValueError(f"lane {dict(labels, seed=seed)} has no parameters: the run stopped before its turn")
        group = self.plan.groups[g]
        state = jax.tree.map(lambda x: x[index], self.states[g])
        policy, params = group.learner.policy(state.learner)
        return lane_env(group, h), policy, params


def find(plan: Plan, labels: dict[str, Any], seed: int) -> tuple[int, int, int]:
    """Where a lane is: its group, its setting within the group, and its place among the group's lanes [L]."""
    for g, group in enumerate(plan.groups):
        for h, setting in enumerate(group.settings):
            if _labels(setting) == _labels(labels) and seed in plan.seeds:
                return g, h, h * len(plan.seeds) + plan.seeds.index(seed)
    axes = {**plan.axes, "seed": plan.seeds}
    raise ValueError(f"no lane {dict(labels, seed=seed)}; the axes are {axes}")


def lane_env(group: Group, h: int) -> Env:
    """The environment of a group with the parameters of its setting h."""
    return group.env._replace(params=with_params(group.env, group.hypers[h].env))


class Store:
    """Collects what the groups of a plan measured: arrays [settings..., seed, update]."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.shape = (*(len(v) for v in plan.axes.values()), len(plan.seeds))
        self.updates = max(group.updates for group in plan.groups)
        self.curves: dict[str, np.ndarray] = {}
        self.finals: dict[str, np.ndarray] = {}
        self.finite = np.ones(self.shape, bool)
        self.env_steps = np.full((*self.shape, self.updates), np.nan)
        self.groups_done = 0

    @property
    def complete(self) -> bool:
        """Whether every group was trained and evaluated to its end."""
        return self.groups_done == len(self.plan.groups)

    def _rows(self, group: Group):
        """Position in the arrays of each setting of the group."""
        for h, setting in enumerate(group.settings):
            yield h, tuple(values.index(setting[label]) for label, values in self.plan.axes.items())

    def add(self, group: Group, first: int, metrics: dict[str, np.ndarray], finite: np.ndarray) -> None:
        """Metrics [L, U] of the updates from `first` on."""
        seeds = len(self.plan.seeds)
        for name, values in metrics.items():
            values = values.reshape(-1, seeds, values.shape[-1])
            last = first + values.shape[-1]
            if name == "env_steps":
                before = self.env_steps[..., first - 1] if first else np.zeros(self.shape)
                for h, row in self._rows(group):
                    self.env_steps[row][:, first:last] = before[row][:, None] + np.cumsum(values[h], axis=-1)
                continue
            curve = self.curves.setdefault(name, np.full((*self.shape, self.updates), np.nan, np.float32))
            for h, row in self._rows(group):
                curve[row][:, first:last] = values[h]
        for h, row in self._rows(group):
            self.finite[row] = finite.reshape(-1, seeds)[h]

    def add_final(self, group: Group, name: str, values: np.ndarray) -> None:
        """One array [L, E] of the evaluation after training."""
        values = values.reshape(len(group.settings), len(self.plan.seeds), -1)
        shape = (*self.shape, max(g.config.eval_episodes for g in self.plan.groups))
        array = self.finals.setdefault(name, np.full(shape, np.nan, np.float32))
        for h, row in self._rows(group):
            array[row][:, : values.shape[-1]] = values[h]

    def dataset(self) -> Any:
        """The xarray Dataset. A coordinate that is the same for every lane has the dimension update alone."""
        import xarray

        dims = (*self.plan.axes, "seed")
        known = self.env_steps.reshape(-1, self.updates)
        # A failed lane has no steps any more; the others say where it would be.
        most = np.fmax.reduce(known, axis=0)
        same = np.all((known == most) | np.isnan(known))
        steps = ("update", most) if same else ((*dims, "update"), self.env_steps)
        data = {name: ((*dims, "update"), curve) for name, curve in sorted(self.curves.items())}
        data |= {name: ((*dims, "episode"), final) for name, final in self.finals.items()}
        data["finite"] = (dims, self.finite)
        labels = {name: [_label(v) for v in values] for name, values in self.plan.axes.items()}
        # zarr warns of text of a fixed length.
        labels = {k: np.array(v, object) if isinstance(v[0], str) else v for k, v in labels.items()}
        coords = {**labels, "seed": self.plan.seeds, "update": np.arange(1, self.updates + 1), "env_steps": steps}
        return xarray.Dataset(data, coords)


def _labels(setting: dict[str, Any]) -> dict[str, Any]:
    return {name: _label(value) for name, value in setting.items()}


def _label(value: Any) -> Any:
    return "x".join(map(str, value)) if isinstance(value, tuple) else value


def create(path: pathlib.Path, config: dict[str, Any]) -> None:
    """Make the run folder and write config.json; a folder that exists is left alone."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        raise ValueError(f"out: folder {str(path)!r} exists; choose another or remove it") from None
    except OSError as error:
        raise ValueError(f"out: can't make folder {str(path)!r}: {error.strerror}") from error
    write_json(path / "config.json", config)


def write_json(path: pathlib.Path, value: Any) -> None:
    path.write_text(json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """Strict JSON: arrays as lists, numbers that JSON lacks as text, functions by name."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else name_of(value)


def write(result: Result) -> None:
    """metrics.zarr, params/ and summary.json."""
    result.metrics.to_zarr(result.path / "metrics.zarr", mode="w", zarr_format=3, consolidated=False)
    write_json(result.path / "summary.json", result.summary)
    for index, (group, states) in enumerate(zip(result.plan.groups, result.states, strict=False)):
        save(result.path / "params" / f"group{index}", group, states)


def save(folder: pathlib.Path, group: Group, states: PyTree) -> None:
    """The parameters of a group's lanes; done when this returns, so the states may then be donated."""
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute(), saved(group, states))


def saved(group: Group, states: PyTree) -> dict[str, PyTree]:
    """What is saved of the TrainState of lanes [L]: parameters, and the moments that normalise observations."""
    moments = getattr(states.learner, "obs_moments", ())
    params = group.learner.policy(states.learner)[1]
    return {"params": params, **({"obs_moments": moments._asdict()} if moments else {})}


def machine() -> dict[str, Any]:
    """Versions and device: what a rerun needs to know."""
    from importlib.metadata import version

    packages = ("pgjax", "jax", "jaxlib", "flax", "optax", "gymnax", "numpy", "xarray", "zarr", "orbax-checkpoint")
    device = jax.devices()[0]
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "machine": {"system": platform.system(), "processor": platform.machine()},
    }


def origin(thing: Any) -> str:
    """Where a plug or a factory of the user's comes from: name, module and file."""
    import inspect

    while isinstance(thing, functools.partial):
        thing = thing.func
    try:
        return f"{thing.__module__}:{name_of(thing)} ({inspect.getsourcefile(thing)})"
    except (AttributeError, TypeError):
        return name_of(thing)


def spec(thing: Any) -> str | None:
    """The `module:name` by which another process finds a function again, or None where there is none."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
    found = getattr(sys.modules.get(module), name, None) is thing
    # What a script defines is found only by running the script, which would train again.
    return f"{module}:{name}" if found and module != "__main__" else None

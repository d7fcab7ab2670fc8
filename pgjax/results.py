"""Metrics of lanes in; a labelled dataset, and the folder of a run, out."""

import contextlib
import dataclasses
import functools
import importlib.metadata
import itertools
import json
import math
import os
import pathlib
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pgjax
from pgjax import checkpoints, chunks, train
from pgjax.checkpoints import Folder, Memory
from pgjax.envs import with_params
from pgjax.plugs import name_of
from pgjax.settings import Group, Plan
from pgjax.types import Env, Policy, PyTree

Archive = Folder | Memory


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


def shapes(group: Group, width: int) -> PyTree:
    """What the TrainState of `width` lanes looks like on a device."""
    one = jax.eval_shape(lambda key: train.init(key, group.learner, group.hypers[0]), jax.random.key(0))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((width, *x.shape), x.dtype), one)


def kept_shapes(group: Group, width: int) -> PyTree:
    """What it looks like in a checkpoint."""
    return jax.eval_shape(checkpoints.words, shapes(group, width))


def lane_env(group: Group, h: int) -> Env:
    """The environment of a group with the parameters of its setting h."""
    return group.env._replace(params=with_params(group.env, group.hypers[h].env))


def coordinates(setting: dict[str, Any]) -> dict[str, Any]:
    """Labels as the dataset has them."""
    return {name: label(value) for name, value in setting.items()}


def label(value: Any) -> Any:
    return "x".join(map(str, value)) if isinstance(value, tuple) else value


def create(path: pathlib.Path, config: dict[str, Any]) -> list[pathlib.Path]:
    """Make the run folder with its config.json, both or neither; a folder that exists is left alone.

    Returns:
      the folders that were made, the run's first, then those above it: what `discard` takes back.
    """
    shown, path = str(path), path.absolute()
    draft, made = path.with_name(f".{path.name}.{os.getpid()}"), []
    try:
        if path.exists():
            raise ValueError(f"out: folder {shown!r} exists; choose another or remove it")
        made = [path, *itertools.takewhile(lambda folder: not folder.exists(), path.parents)]
        draft.mkdir(parents=True)
        write_json(draft / "config.json", config)
        chunks.replace(draft, path)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        discard(made[1:])
        if isinstance(error, OSError):
            raise ValueError(f"out: can't make folder {shown!r}: {error.strerror}") from error
        raise
    return made


def discard(made: Sequence[pathlib.Path]) -> None:
    """Take back what `create` made, but for folders that hold something else by now."""
    for place in made:
        (place / "config.json").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            place.rmdir()


def write_json(path: pathlib.Path, value: Any) -> None:
    chunks.replace_text(path, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


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


def write(result: Result, draw: Callable[[pathlib.Path], None]) -> None:
    """metrics.zarr, what `draw` draws, and last summary.json: where that is, all is."""
    (result.path / "summary.json").unlink(missing_ok=True)
    draft = result.path / ".metrics.zarr"
    shutil.rmtree(draft, ignore_errors=True)
    result.metrics.to_zarr(draft, mode="w", zarr_format=3, consolidated=False)
    chunks.replace(draft, result.path / "metrics.zarr")
    draw(result.path / "curve.png")
    write_json(result.path / "summary.json", result.summary)


def machine() -> dict[str, Any]:
    """Versions and device: what a rerun needs to know."""
    packages = ("jax", "jaxlib", "flax", "optax", "gymnax", "gymnasium", "flashbax", "numpy", "xarray", "zarr")
    versions = {"python": platform.python_version(), "pgjax": pgjax.__version__}
    device = jax.devices()[0]
    return {
        "versions": {**versions, **{name: _version(name) for name in packages}},
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "machine": {"system": platform.system(), "processor": platform.machine()},
    }


def _version(package: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


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

"""Collects the metrics of a run's chunks in one labelled dataset, and reads it back."""

import pathlib
import time
import warnings
from typing import Any

import numpy as np

from pgjax.dependencies import importing
from pgjax.engine import chunks, files
from pgjax.sweeps.plan import Plan

TRIES, PAUSE = 10, 0.02  # to read a folder that other processes write; seconds


def coordinates(setting: dict[str, Any]) -> dict[str, Any]:
    """The labels of a setting as the dataset spells them."""
    return {name: label(value) for name, value in setting.items()}


def label(value: Any) -> Any:
    """The value as a coordinate of the dataset: a tuple is text, such as '64x64'."""
    return "x".join(map(str, value)) if isinstance(value, tuple) else value


def write(path: pathlib.Path, metrics: Any) -> None:
    """Write the dataset as a folder of zarr, the whole or nothing; at an address its zarr.json comes last."""
    with files.scratch(path) as draft:
        metrics.to_zarr(draft, mode="w", zarr_format=3, consolidated=False)
        files.put(draft, path, "zarr.json")


def load(path: pathlib.Path) -> Any:
    """The xarray Dataset in a folder of zarr; other files in the folder are ignored.

    zarr takes a part of an array that is missing for one of no numbers, so the folder is read again where another
    process wrote it meanwhile.
    """
    with importing("xarray"):
        import xarray

    for left in reversed(range(TRIES)):
        before = files.stamp(path)
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="Object at .* is not recognized as a component of a Zarr hierarchy"
            )
            try:
                # zarr's own client of a server is closed by nobody, so what is there comes to this machine first.
                with files.fetched(path, before or ()) as place, xarray.open_zarr(place, consolidated=False) as stored:
                    found = stored.load()
            except Exception:
                if not left or files.stamp(path) == before is not None:
                    raise
                time.sleep(PAUSE)
                continue
        if before is not None and files.stamp(path) == before:
            return found
    raise OSError(f"{path.name} is written again and again by another process")


class Store:
    """Collects the metrics of a run's chunks in arrays [settings..., seed, update]."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.shape = (*(len(v) for v in plan.axes.values()), len(plan.seeds))
        self.updates = max(group.updates for group in plan.groups)
        self.curves: dict[str, np.ndarray] = {}
        self.finals: dict[str, np.ndarray] = {}
        self.finite = np.ones(self.shape, bool)
        self.stopped = np.zeros(self.shape, bool)
        self.env_steps = np.full((*self.shape, self.updates), np.nan)

    def _rows(self, chunk: chunks.Chunk) -> tuple[Any, ...]:
        """The place of each lane of a chunk in the arrays: an index array for each axis but the last."""
        seeds = {seed: i for i, seed in enumerate(self.plan.seeds)}
        settings = self.plan.groups[chunk.group].settings
        places = [[v.index(settings[h][k]) for k, v in self.plan.axes.items()] + [seeds[s]] for h, s in chunk.lanes]
        return tuple(np.array(places).T)

    def add(self, chunk: chunks.Chunk, metrics: dict[str, np.ndarray], finals: dict[str, np.ndarray]) -> None:
        """Add the metrics [W, U] of the updates since the chunk's first, and its evaluation [W, E]."""
        rows, count = self._rows(chunk), len(chunk.lanes)
        for name, values in metrics.items():
            values = values[:count]
            if name == "finite":
                self.finite[rows] &= values.all(axis=-1)
                continue
            span = slice(chunk.first, chunk.first + values.shape[-1])
            if name == "env_steps":
                before = self.env_steps[(*rows, chunk.first - 1)] if chunk.first else np.zeros(count)
                self.env_steps[(*rows, span)] = before[:, None] + np.cumsum(values, axis=-1, dtype=float)
                continue
            curve = self.curves.setdefault(name, np.full((*self.shape, self.updates), np.nan, np.float32))
            curve[(*rows, span)] = values
        for name, values in finals.items():
            shape = (*self.shape, max(g.config.eval_episodes for g in self.plan.groups))
            array = self.finals.setdefault(name, np.full(shape, np.nan, np.float32))
            array[(*rows, slice(values.shape[-1]))] = values[:count]

    def stop(self, group: int, settings: list[int]) -> None:
        """Mark settings that a halving rule stopped."""
        lanes = tuple((h, seed) for h in settings for seed in self.plan.seeds)
        self.stopped[self._rows(chunks.Chunk(group, 0, 0, 0, lanes))] = True

    def dataset(self) -> Any:
        """The xarray Dataset. A coordinate that is the same for every lane has the dimension update alone."""
        with importing("xarray"):
            import xarray

        dims = (*self.plan.axes, "seed")
        known = self.env_steps.reshape(-1, self.updates)
        # A failed lane has no steps after its failure; those of the other lanes are used.
        most = np.fmax.reduce(known, axis=0)
        same = np.all((known == most) | np.isnan(known))
        steps = ("update", most) if same else ((*dims, "update"), self.env_steps)
        data = {name: ((*dims, "update"), curve) for name, curve in sorted(self.curves.items())}
        data |= {name: ((*dims, "episode"), final) for name, final in self.finals.items()}
        data["finite"] = (dims, self.finite)
        if self.stopped.any():
            data["stopped"] = (dims, self.stopped)
        labels = {name: _coordinate(values) for name, values in self.plan.axes.items()}
        points = self.plan.points or [{}]
        labels |= {name: ("setting", _coordinate([point[name] for point in points])) for name in points[0]}
        coords = {**labels, "seed": self.plan.seeds, "update": np.arange(1, self.updates + 1), "env_steps": steps}
        return xarray.Dataset(data, coords)


def _coordinate(values: list[Any]) -> Any:
    values = [label(v) for v in values]
    # zarr warns about text of a fixed length.
    return np.array(values, object) if isinstance(values[0], str) else values

"""Logs the metrics of finished segments to TensorBoard or Weights & Biases."""

import contextlib
import hashlib
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from pgjax.dependencies import importing
from pgjax.engine import files
from pgjax.errors import unknown
from pgjax.sweeps.values import place

# Watches a run train: (labels [L] of lanes, update, metrics [L, U] of a segment that ended after `update` updates).
Watch = Callable[[list[dict[str, Any]], int, dict[str, np.ndarray]], None]


class Logger:
    """Writes each metric of a segment, its mean over the segment's updates, against the update.

    There is one curve for each lane, or one for each setting: the mean over those of its seeds that are trained
    together and are finite.
    """

    def __init__(self, writer: Any, lanes: bool):
        self.writer, self.lanes = writer, lanes

    def __call__(self, labels: list[dict[str, Any]], update: int, metrics: dict[str, np.ndarray]) -> None:
        """`labels` [L] say which lane each row of the metrics [L, U] is of; `update` is the last of the segment."""
        curves: dict[str, list[int]] = {}
        for i, label in enumerate(labels):
            named = label if self.lanes else {k: v for k, v in label.items() if k != "seed"}
            name = ",".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in named.items())
            curves.setdefault(name, []).append(i)
        for name, rows in curves.items():
            point = {}
            for metric, values in metrics.items():
                seen = values[rows][np.isfinite(values[rows])]
                if len(seen):
                    point[metric] = float(seen.mean())
            if not self.lanes:  # other chunks have other seeds of the setting, and curves of their own
                seeds = [labels[i]["seed"] for i in rows]
                name = f"{name}{',' * bool(name)}seeds={min(seeds)}-{max(seeds)}"
            self.writer.write(name, update, point)

    def close(self) -> None:
        self.writer.close()


class TensorBoard:
    """A writer of event files in `folder`, a folder for each curve."""

    def __init__(self, folder: pathlib.Path):
        with importing("tensorboardX", "tensorboard", "log: tensorboard"):
            from tensorboardX import SummaryWriter

        self.open, self.folder = SummaryWriter, folder
        self.writers: dict[str, Any] = {}

    def write(self, name: str, update: int, point: dict[str, float]) -> None:
        if name not in self.writers:
            # A resumed run logs the updates after its last checkpoint again.
            again = {"purge_step": update} if (self.folder / name).is_dir() else {}
            self.writers[name] = self.open(str(self.folder / name), **again)
        writer = self.writers[name]
        for metric, value in point.items():
            writer.add_scalar(metric, value, update)

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()


class WeightsAndBiases:
    """A writer of one W&B run for each curve; `folder` keeps their ids."""

    def __init__(self, folder: pathlib.Path):
        with importing("wandb", "wandb", "log: wandb"):
            import wandb

        self.wandb, self.folder = wandb, folder
        self.runs: dict[str, Any] = {}

    def write(self, name: str, update: int, point: dict[str, float]) -> None:
        if name not in self.runs:
            options = {"project": "pgjax", "group": self.folder.parent.name}
            if not files.remote(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                options["dir"] = str(self.folder)
            # A resumed run goes on with the same curve.
            kept = self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.id"
            with contextlib.suppress(FileNotFoundError):
                options |= {"id": files.read(kept).decode(), "resume": "allow"}
            self.runs[name] = self.wandb.init(name=name, reinit="create_new", **options)
            files.replace_text(kept, self.runs[name].id)
        self.runs[name].log(point, step=update)

    def close(self) -> None:
        for run in self.runs.values():
            run.finish()


KINDS = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}


def make_logger(kind: str, out: str | pathlib.Path, lanes: bool = False) -> Logger:
    """A Logger that writes below the run folder `out`.

    Raises:
      ValueError: for another kind, or for TensorBoard's files at an address; PackageError where its package isn't
        installed, or broken.
    """
    if kind not in KINDS:
        raise ValueError(unknown("log: no logger", kind, KINDS))
    path = place("out", out)
    if files.remote(path) and kind == "tensorboard":
        raise ValueError(f"log: tensorboard writes to a disk alone, not to {str(path)!r}; use wandb, or leave it out")
    return Logger(KINDS[kind](path / kind), lanes)

"""Works for a run that was begun elsewhere: `pgjax work`, and the tasks that executors carry out."""

import pathlib
import pickle
import queue
import threading
from typing import Any

from pgjax.engine import chunks, crew, files, interrupts, machine
from pgjax.engine.board import Board
from pgjax.engine.programs import keep_compiled
from pgjax.engine.progress import Progress
from pgjax.engine.stages import kept_updates
from pgjax.engine.trainer import Engine
from pgjax.runs.execute import Job, execute, new_engine, opened
from pgjax.runs.jobs import resumed_job
from pgjax.runs.run import Run
from pgjax.sweeps.values import place


def work(path: str | pathlib.Path, *, devices: Any = None, progress: bool = True, **objects: Any) -> Run:
    """Train chunks of the run in a folder that no other process trains, until none is left.

    Example: `pgjax.work("runs/sweep")` in as many processes as you like, on every machine that sees the folder.

    Args:
      path: the run folder, made by `pgjax.run` or `pgjax sweep`, which may be at work or gone.
      devices: how many of this process's devices.
      objects: see `pgjax.load`.

    Returns:
      the Run, whose results were written if all is done.

    Raises:
      ValueError: where this machine's numbers would differ from the run's: another kind of device, pgjax or jax.
    """
    result = execute(resumed_job(path, devices=devices, strict=True, **objects), progress, worker=True)
    interrupts.end(result.signal)
    return result


class Worker:
    """What a process keeps of a run between two tasks: its plan, its compiled programs, and its idle teams."""

    def __init__(self, path: str, objects: bytes | None):
        self.read, self.seen = (_stamp(path, "config.json"), objects), _stamp(path, "chunks.json")
        self.job: Job = resumed_job(path, strict=True, **_given(objects))
        self.bar = Progress(shown=False)
        self.engine: Engine = new_engine(self.job)
        self.board: Board = opened(self.job, self.engine, self.bar)
        self.idle: queue.Queue[int] = queue.Queue()
        for team in range(len(self.engine.teams)):
            self.idle.put(team)

    def train(self, only: list[int]) -> None:
        """Train the chunks of these numbers on a team of this process."""
        team = self.idle.get()
        try:
            with interrupts.interruptible() as stop, crew.reporting(self.engine, self.board, self.bar):
                self.refresh()
                while (number := self.board.take(stop, only)) is not None:
                    crew.train(self.engine, self.board, number, team, self.keep, self.bar, stop)
        finally:
            self.idle.put(team)
        interrupts.end(stop.signal)

    def keep(self, group: int) -> set[int]:
        """The updates of a group whose checkpoints stay."""
        return kept_updates(self.board.schedule, group, self.job.execution.snapshots)

    def refresh(self) -> None:
        """Read the schedule again, if another process has changed it."""
        path = self.job.path
        assert path is not None
        if (now := _stamp(path, "chunks.json")) != self.seen and (found := chunks.read(path / "chunks.json")):
            self.seen = now
            with self.board.changed:
                self.board.adopt(found)


def _stamp(path: Any, name: str) -> Any:
    return files.stamp(place("path", path) / name)


def _given(objects: bytes | None) -> dict[str, Any]:
    return {} if objects is None else pickle.loads(objects)


_workers: dict[str, Worker] = {}
_opening = threading.Lock()


def task(path: str, only: list[int] | None, objects: bytes | None) -> None:
    """Train chunks of the run in a folder: the task that an executor carries out, as often as it likes.

    Args:
      only: their numbers; none to plan alone; None for all that are left, on all devices.
      objects: the user's objects that can't be imported, as `drive` pickled them.
    """
    with _opening:
        # A cluster's worker may live longer than the run that it first found in the folder.
        stays = only and path in _workers and _workers[path].read == (_stamp(path, "config.json"), objects)
        if not stays:
            machine.use_every_core(path)
            keep_compiled(place("path", path) / "work" / "compiled")
        if only is not None and not stays:
            _workers[path] = Worker(path, objects)
    if only is None:
        work(path, **_given(objects))
    elif only:
        _workers[path].train(only)

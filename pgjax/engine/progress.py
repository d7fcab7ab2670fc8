"""Shows progress: a live bar on a terminal, otherwise one line every five seconds."""

import time
import warnings
from typing import Any, Self

import numpy as np

from pgjax.dependencies import importing

_EVERY = 5.0  # seconds between two lines where the output is no terminal


class Screen:
    """A context with a console on stderr, and a bar where that is a terminal; it prints nothing unless `shown`."""

    def __init__(self, *columns: str, shown: bool = True):
        self.columns, self.shown = columns, shown
        self.bar: Any = None  # a rich.progress.Progress

    def __enter__(self) -> Self:
        if not self.shown:
            return self
        with importing("rich"):
            from rich import progress
            from rich.console import Console

        self.console = Console(stderr=True)
        if self.console.is_terminal:
            # A column is named by its class, or is a text.
            made = [getattr(progress, c)() if hasattr(progress, c) else progress.TextColumn(c) for c in self.columns]
            self.bar = progress.Progress(*made, console=self.console)
            self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.stop()

    def say(self, text: str) -> None:
        """Print a line."""
        if self.shown:
            self.console.print(text, highlight=False, markup=False)


class Progress(Screen):
    """Training: `say` for a phase, `start` for a group, `update` for each finished segment."""

    def __init__(self, groups: int, shown: bool = True):
        news = "updates  {task.fields[news]}"
        super().__init__(
            "{task.description}", "BarColumn", "MofNCompleteColumn", news, "TimeRemainingColumn", shown=shown
        )
        self.groups = groups

    def start(self, group: int, total: int, lanes: int) -> None:
        """Begin a group of `lanes` lanes with `total` updates in all."""
        self.total, self.lanes, self.done, self.skipped, self.steps, self.printed = total, lanes, 0, 0, 0.0, 0.0
        self.failed: dict[int, int] = {}
        self.began = time.perf_counter()
        if self.shown and self.bar is not None:
            name = "training" if self.groups == 1 else f"group {group + 1}/{self.groups}"
            self.task = self.bar.add_task(name, total=total, news="")

    def skip(self, updates: int) -> None:
        """Count updates that were made before."""
        self.done += updates
        self.skipped += updates

    def update(self, updates: int, chunk: int, metrics: dict[str, np.ndarray], finite: np.ndarray) -> None:
        """Count a finished segment: updates of its lanes together, the chunk, its metrics [L, U], finite [L]."""
        if not self.shown:
            return
        self.done += updates
        elapsed = time.perf_counter() - self.began
        self.steps += np.nansum(metrics["env_steps"]) if "env_steps" in metrics else 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the mean of no number
            latest = float(np.nanmean(metrics["episode_return"][:, -1])) if "episode_return" in metrics else np.nan
        self.failed[chunk] = int((~finite).sum())
        failed = sum(self.failed.values())
        news = f"{_count(self.steps / elapsed)} steps/s  return {latest:.4g}"
        news += f"  {failed} of {self.lanes} lanes failed" if failed else ""
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, news=news)
        elif elapsed - self.printed >= _EVERY or self.done == updates or self.done == self.total:
            self.printed = elapsed
            left = elapsed / (self.done - self.skipped) * (self.total - self.done)
            self.say(f"{self.done}/{self.total} updates of all lanes  {news}  {left:.0f} s left")


class Stages(Screen):
    """A measurement: a bar for each stage of each point on a terminal; a line for each finished stage elsewhere."""

    def __init__(self, points: int):
        super().__init__("{task.description:24s}", "BarColumn", "TimeElapsedColumn")
        self.points = points
        self.tasks: dict[str, Any] = {}

    def start(self, point: Any) -> None:
        """Begin a point of training."""
        self.label = f"update {point}: " if self.points > 1 else ""
        self.tasks = {}

    def update(self, stage: str, share: float) -> None:
        """Show that a stage is done to a share in [0, 1]."""
        if self.bar is not None:
            if stage not in self.tasks:
                self.tasks[stage] = self.bar.add_task(self.label + stage, total=1.0)
            self.bar.update(self.tasks[stage], completed=share)
        elif share >= 1:
            self.say(f"{self.label}{stage} done")


def _count(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"

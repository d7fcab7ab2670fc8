"""Metrics of finished segments in; a live bar on a terminal, or a line now and then elsewhere, out."""

import time
import warnings
from typing import Any

import numpy as np

from pgjax.dependencies import importing

_EVERY = 5.0  # seconds between two lines where the output is no terminal


class Progress:
    """A context: `say` for a phase, `start` for a group, `update` for each finished segment."""

    def __init__(self, groups: int, shown: bool = True):
        self.groups, self.shown = groups, shown

    def __enter__(self) -> "Progress":
        if not self.shown:
            return self
        with importing("rich"):
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

        self.console = Console(stderr=True)
        self.bar = None
        if self.console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("updates  {task.fields[news]}"),
                TimeRemainingColumn(),
            )
            self.bar = Bar(*columns, console=self.console, transient=False)
            self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self.shown and self.bar is not None:
            self.bar.stop()

    def say(self, text: str) -> None:
        if self.shown:
            self.console.print(text, highlight=False, markup=False)

    def start(self, group: int, total: int, lanes: int) -> None:
        """A group begins, of `lanes` lanes with `total` updates in all."""
        self.total, self.lanes, self.done, self.skipped, self.steps, self.printed = total, lanes, 0, 0, 0.0, 0.0
        self.failed: dict[int, int] = {}
        self.began = time.perf_counter()
        if self.shown and self.bar is not None:
            name = "training" if self.groups == 1 else f"group {group + 1}/{self.groups}"
            self.task = self.bar.add_task(name, total=total, news="")

    def skip(self, updates: int) -> None:
        """Updates that were made before."""
        self.done += updates
        self.skipped += updates

    def update(self, updates: int, chunk: int, metrics: dict[str, np.ndarray], finite: np.ndarray) -> None:
        """`updates` of all lanes together; of a chunk's lanes `metrics` [L, U] of the segment and `finite` [L]."""
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


def _count(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"

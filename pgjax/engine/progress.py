"""Shows progress: a live bar on a terminal, otherwise one line every five seconds."""

import math
import threading
import time
import warnings
from typing import Any, NamedTuple, Self

import numpy as np

from pgjax.dependencies import importing
from pgjax.engine.clock import Pace
from pgjax.engine.statuses import Status

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
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)


class Size(NamedTuple):
    """What there is to do in a chunk."""

    lanes: int
    updates: int  # of each lane
    rate: float  # work of an update of all lanes, in any unit of time


class Progress(Screen):
    """Training of a whole run: `say` for a phase, `start`, then `update` for each finished segment."""

    def __init__(self, shown: bool = True):
        news = "updates  {task.fields[news]}"
        super().__init__("{task.description}", "BarColumn", "MofNCompleteColumn", news, shown=shown)
        self.lock, self.task = threading.RLock(), None
        self.sizes: dict[int, Size] = {}
        self.made: dict[int, int] = {}  # chunk -> updates of each of its lanes
        self.failed: dict[int, int] = {}
        self.counts = [0.0, 0.0, 0.0]  # updates of all lanes, steps of the environments and work, of this process
        self.latest = math.nan  # the mean return of the last segment of this process
        self.pace, self.whole = Pace(), Pace()  # of this process; of the whole run
        self.others: list[Status] = []
        self.workers = 1
        self.done, self.total, self.worked, self.wanted = 0, 0, 0.0, 0.0  # updates of all lanes; work
        self.given_up: set[int] = set()
        self.printed = -math.inf

    def start(self, chunks: dict[int, Size]) -> None:
        """Begin, or go on with more chunks."""
        with self.lock:
            now = time.perf_counter()
            if not self.sizes:
                self.pace.at(now, *self.counts)
            if not math.isfinite(self.printed):
                self.printed = now
            self.sizes = chunks
            self._sum()

    def at(self, chunk: int, updates: int) -> None:
        """Say how many updates a chunk has had, whoever made them."""
        with self.lock:
            more = updates - self.made.get(chunk, 0)
            self.made[chunk] = updates
            if size := self.sizes.get(chunk):
                self.done += more * size.lanes
                self.worked += more * size.rate

    def hear(self, others: list[Status], workers: int, given_up: set[int]) -> None:
        """Show what the other processes of the run say, how many train, and which chunks nobody will train."""
        with self.lock:
            self.others, self.workers, self.given_up = others, workers, given_up
            self._sum()
            self.show()

    def said(self) -> dict[str, Any]:
        """What this process makes, as a `Status` has it."""
        with self.lock:
            updates, steps, work = self.pace.at(time.perf_counter(), *self.counts)
            return {
                "updates_per_second": updates,
                "steps_per_second": steps,
                "work_per_second": work,
                "episode_return": self.latest if math.isfinite(self.latest) else None,
                "failed_lanes": sum(self.failed.values()),
            }

    def update(self, chunk: int, updates: int, metrics: dict[str, np.ndarray], finite: np.ndarray) -> None:
        """Count a finished segment of a chunk, which has had so many updates by now; its metrics [L, U], finite [L]."""
        with self.lock:
            size, more = self.sizes[chunk], updates - self.made.get(chunk, 0)
            self.counts[0] += more * size.lanes
            self.counts[1] += float(np.nansum(metrics["env_steps"])) if "env_steps" in metrics else 0.0
            self.counts[2] += more * size.rate
            self.pace.at(time.perf_counter(), *self.counts)
            self.at(chunk, updates)
            self.failed[chunk] = int((~finite).sum())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # the mean of no number
                self.latest = float(np.nanmean(metrics.get("episode_return", np.full((1, 1), np.nan))[:, -1]))
            self.show()

    def show(self) -> None:
        """Show how far the run has come, whoever works."""
        if not self.shown:
            return
        with self.lock:
            now = time.perf_counter()
            done, total, left = self.done, self.total, self._left(now)
            if self.bar is not None:
                if self.task is None:
                    self.task = self.bar.add_task("training", total=total, news="")
                self.bar.update(self.task, total=total, completed=done, news=f"{self._news(now)}  {left}".strip())
            elif now - self.printed >= _EVERY or (done == total and self.printed < math.inf):
                self.printed = now if done < total else math.inf
                self.say("  ".join(filter(None, [f"{done}/{total} updates of all lanes", self._news(now), left])))

    def _sum(self) -> None:
        """Sum up what was made and what will have been, without what is left of chunks that were given up."""
        made = {number: self.made.get(number, 0) for number in self.sizes}
        goal = {n: made[n] if n in self.given_up else size.updates for n, size in self.sizes.items()}
        self.done, self.total = (sum(x[n] * size.lanes for n, size in self.sizes.items()) for x in (made, goal))
        self.worked, self.wanted = (sum(x[n] * size.rate for n, size in self.sizes.items()) for x in (made, goal))

    def _left(self, now: float) -> str:
        """The time left, in words; nothing where that isn't known yet."""
        (pace,) = self.whole.at(now, self.worked)
        return f"{duration((self.wanted - self.worked) / pace)} left" if pace > 0 and self.done < self.total else ""

    def _news(self, now: float) -> str:
        """The rate, the return, and what failed, of all processes together."""
        rate = self.pace.at(now, *self.counts)[1] + sum(one.steps_per_second for one in self.others)
        returns = [one.episode_return for one in self.others if one.episode_return is not None]
        returns += [self.latest] if math.isfinite(self.latest) else []
        failed = sum(self.failed.values()) + sum(one.failed_lanes for one in self.others)
        lanes = sum(size.lanes for size in self.sizes.values())
        return "  ".join(
            ([f"{count(rate)} steps/s"] if rate else [])
            + ([f"return {np.mean(returns):.4g}"] if returns else [])
            + ([f"{failed} of {lanes} lanes failed"] if failed else [])
            + ([f"{self.workers} worker{'s' * (self.workers != 1)}"] if self.others else [])
            + ([f"{len(self.given_up)} chunk{'s' * (len(self.given_up) != 1)} given up"] if self.given_up else [])
        )


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


def count(number: float) -> str:
    """A number in three digits: "12.3k"."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def duration(seconds: float) -> str:
    """Seconds in words: "45 s", "12 min", "3 h 5 min", "2 d 3 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"

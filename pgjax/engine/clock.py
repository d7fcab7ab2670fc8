"""Measures how long a process compiled, trained and evaluated, and how fast what it counts grows."""

import collections
import contextlib
import threading
import time
from collections.abc import Iterator

SPENT = ("compile_seconds", "train_seconds", "evaluate_seconds")
WINDOW = 60.0  # seconds over which a pace is measured
APART = 1.0  # seconds between two samples of it


class Clock:
    """Seconds in which at least one thread compiled, trained or evaluated, and how many threads train now."""

    def __init__(self):
        self.spent = dict.fromkeys(SPENT, 0.0)
        self.active = dict.fromkeys(self.spent, 0)
        self.began = dict.fromkeys(self.spent, 0.0)
        self.lock = threading.Lock()

    @contextlib.contextmanager
    def __call__(self, kind: str) -> Iterator[None]:
        """While this lasts, a thread does what the kind of seconds is of."""
        with self.lock:
            if not self.active[kind]:
                self.began[kind] = time.perf_counter()
            self.active[kind] += 1
        try:
            yield
        finally:
            with self.lock:
                self.active[kind] -= 1
                if not self.active[kind]:
                    self.spent[kind] += time.perf_counter() - self.began[kind]


class Pace:
    """How fast some counters grow: over the last minute, or since they grew last where that is longer ago.

    What comes before they grow for the first time doesn't count: programs are compiled then.
    """

    def __init__(self):
        self.samples: collections.deque[tuple[float, ...]] = collections.deque()
        self.grown = False

    def at(self, time: float, *counts: float) -> tuple[float, ...]:
        """Note the counters at a time in seconds.

        Returns:
          how much each has grown a second; 0 where that isn't known yet.
        """
        kept = self.samples
        if not kept or kept[-1][1:] != counts:
            if len(kept) == 1 and not self.grown:
                self.grown = kept.pop()[1:] != counts
            if len(kept) > 1 and kept[-1][0] - kept[-2][0] < APART:
                kept.pop()
            kept.append((time, *counts))
        while len(kept) > 2 and time - kept[1][0] > WINDOW:
            kept.popleft()
        took = time - kept[0][0]
        return tuple((now - then) / took if took > 0 else 0.0 for now, then in zip(counts, kept[0][1:], strict=True))

"""Hands out the chunks of a run, the longest first, to the threads of this process and those of others."""

import random
import threading
from collections.abc import Callable, Collection
from typing import Any

from pgjax.engine.chunks import Chunk, Schedule
from pgjax.engine.leases import Alone, Shared
from pgjax.engine.ledger import ATTEMPTS

POLL = 1.0  # seconds between two looks at what other processes have done
WATCHED = 16  # leases of others that are looked at in one look, to see whether their owners are alive


class Board:
    """Which chunks of a run are to be trained, and which of them this process trains.

    Attributes:
      schedule: it may grow while the run goes on.
      claims: what all processes know.
      mine: number -> lease of the chunks that this process trains.
    """

    def __init__(
        self,
        schedule: Schedule,
        claims: Alone | Shared,
        cost: Callable[[Chunk], float],
        following: Callable[[Schedule], Schedule],
    ):
        """Args:
        cost: how long a chunk takes, in any unit.
        following: what the schedule becomes when all its chunks are done: itself, where nothing follows.
        """
        self.claims, self.cost, self.following = claims, cost, following
        self.mine: dict[int, Any] = {}
        self.reports = 0  # threads that tell other processes what this one does
        self.changed = threading.Condition()
        self.adopt(schedule)

    def adopt(self, schedule: Schedule) -> None:
        """Take a schedule that has grown."""
        self.schedule = schedule
        order = range(len(schedule.chunks))
        self.order = sorted(order, key=lambda i: (-self.cost(schedule.chunks[i]), schedule.chunks[i].group, i))
        self.needs = needs(schedule)

    def take(self, stop: threading.Event, only: Collection[int] | None = None) -> int | None:
        """The number of a chunk that this thread now has to train; waits for one that another process may leave.

        Args:
          only: choose from these numbers.

        Returns:
          None once every chunk is done or was given up, or where `stop` is set.
        """
        with self.changed:
            while not stop.is_set():
                left, ready = self.left(only)
                if not left:
                    return None
                if (number := self._claimed([i for i in ready if i not in self.mine])) is not None:
                    return number
                self.changed.wait(POLL)
        return None

    def left(self, only: Collection[int] | None = None) -> tuple[list[int], list[int]]:
        """The chunks that are still to be trained, in order, and those of them that can begin now.

        Where all are done, the schedule grows by what follows. What needs a chunk that was given up is not among them.
        """
        while True:
            done, failed = self.claims.done(), lost(self.needs, self.claims.failures())
            left = [i for i in self.order if i not in done and i not in failed and (only is None or i in only)]
            if left or failed or only is not None or not self._grown():
                return left, [i for i in left if self.needs[i] <= done]

    def release(self, number: int, ended: bool) -> None:
        """Give a chunk back, which has come to its end or not."""
        with self.changed:
            try:
                if ended:
                    self.claims.finish(number)
            finally:  # a process that lives on must not keep what it doesn't train
                self.mine.pop(number).release()
                self.changed.notify_all()

    def _claimed(self, ready: list[int]) -> int | None:
        """A chunk that could be claimed: one of a worker that is gone, or the first that nobody has."""
        held = self.claims.held()
        gone = [i for i in ready if i in held]
        free = [i for i in ready if i not in held]
        # Of many workers that begin at once each tries the first; those that come too late spread out.
        tries = random.sample(gone, min(WATCHED, len(gone))) + free[:1]
        tries += [random.choice(free[: 2**k]) for k in range(1, 1 + len(free).bit_length())] if free else []
        for number in dict.fromkeys(tries):
            if (lease := self.claims.claim(number)) is not None:
                self.mine[number] = lease
                return number
        return None

    def _grown(self) -> bool:
        longer = self.following(self.schedule)
        if len(longer.chunks) == len(self.schedule.chunks):
            return False
        self.adopt(longer)
        return True


def needs(schedule: Schedule) -> list[set[int]]:
    """Of each chunk, the chunks after which its lanes are where it begins."""
    ends: dict[Any, int] = {}  # (group, lane, update) -> the chunk after which the lane is there
    found: list[set[int]] = []
    for number, c in enumerate(schedule.chunks):
        found.append({ends[c.group, lane, c.first] for lane in c.lanes} if c.first else set())
        ends |= {(c.group, lane, c.last): number for lane in c.lanes}
    return found


def lost(needed: list[set[int]], failures: dict[int, int]) -> set[int]:
    """The chunks that were given up, and those that need one of them.

    Args:
      needed: see `needs`.
      failures: how often each chunk failed.
    """
    found = {number for number, times in failures.items() if times >= ATTEMPTS}
    for number, before in enumerate(needed if found else ()):  # in order: a chunk needs earlier ones alone
        found |= {number} if before & found else set()
    return found

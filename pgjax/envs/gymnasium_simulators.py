"""Gymnasium environments as the `Simulators` of `host_loop`: stepped in this process, and in others beside it."""

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pgjax import dependencies
from pgjax.envs import gymnasium_spaces, stepping
from pgjax.types import PyTree, Step

ERRORS = (RuntimeError, OSError, EOFError)  # of another process


class Simulators:
    """N environments, each reset by itself in the step that ends its episode; several processes share them.

    Actions of a Box are clipped to its bounds.
    """

    def __init__(self, build: Callable[[], Any], count: int, limit: int, processes: int = 1):
        """Args:
        processes: between how many the environments are divided, of which this is one; what they do is the same.
        """
        one = build()
        self.observed, self.acted, self.others = one.observation_space, one.action_space, list[stepping.Beside]()
        layout = stepping.Rows(
            ((), np.dtype(np.uint32)),
            gymnasium_spaces.layout(self.acted),
            gymnasium_spaces.layout(self.observed),
            gymnasium_spaces.layout(self.observed),
            ((), np.dtype(np.float32)),
            ((), np.dtype(bool)),
            ((), np.dtype(bool)),
        )
        self.rows = self._beside(build, count, limit, layout, min(processes, count)) or stepping.plain(layout, count)
        mine = self.others[0].first if self.others else count
        self.block = stepping.Block([one], limit, stepping.part_of(self.rows, 0, mine))
        try:
            self._fill(build, mine)
        except BaseException:
            self.close()
            raise

    def _fill(self, build: Callable[[], Any], mine: int) -> None:
        """Make the other environments of this process."""
        made = self.block.worlds
        made += [build() for _ in range(mine - 1)]
        self.block.time = [0] * mine
        if len({id(world.unwrapped) for world in made}) < mine:
            raise ValueError("build returned the same environment twice; make a new one at each call")
        if any((x.observation_space, x.action_space) != (self.observed, self.acted) for x in made):
            raise ValueError("build returned environments of different spaces; make equal ones")

    def _beside(
        self, build: Callable[[], Any], count: int, limit: int, layout: stepping.Rows, processes: int
    ) -> stepping.Rows | None:
        """Start the other processes; None where none is wanted, or none can make the environments as this one can."""
        pickled = _pickled(build) if processes > 1 else None
        if pickled is None:
            return None
        each = -(-count // processes)
        try:
            memory = stepping.Shared(layout, count)
            with memory.file:
                for first in range(each, count, each):
                    self.others.append(stepping.Beside(pickled, min(each, count - first), limit, memory, first))
            self._wait()
        except ERRORS:  # no process more can be had, or it can't make what was registered in a script
            self._leave()
            return None
        except BaseException:
            self._leave()
            raise
        return memory.rows

    def _leave(self) -> None:
        """End the other processes."""
        others, self.others = self.others, []
        for other in others:
            other.leave()
        until = time.monotonic() + stepping.PATIENCE
        for other in others:
            other.close(until)

    def reset(self, seeds: np.ndarray) -> PyTree:
        """The first observations [N, ...] of new episodes, with these seeds [N]."""
        self.rows.seeds[:] = seeds
        self._together(stepping.RESET, self.block.reset)
        return gymnasium_spaces.seen(self.observed, self.rows.obs)

    def step(self, action: PyTree) -> tuple[PyTree, Step]:
        """The next observations [N, ...], after a reset where an episode ended; and the Step [N], before any reset."""
        rows = self.rows
        stepping.fill(rows.action, gymnasium_spaces.taken(self.acted, action))
        self._together(stepping.STEP, self.block.step)
        obs, last = (gymnasium_spaces.seen(self.observed, x) for x in (rows.obs, rows.last))
        return obs, Step(last, rows.reward, rows.terminated, rows.truncated & ~rows.terminated)

    def close(self) -> None:
        self._leave()
        self.block.close()

    def _together(self, what: bytes, mine: Callable[[], None]) -> None:
        try:
            for other in self.others:
                other.begin(what)
            mine()
        finally:
            self._wait()

    def _wait(self) -> None:
        """Until all have done what they were told: an answer that nobody read would be taken for the next one."""
        errors = []
        for other in self.others:
            try:
                other.end()
            except ERRORS as error:
                errors.append(error)
        if errors:
            raise errors[0]


def _pickled(build: Callable[[], Any]) -> bytes | None:
    """The function for other processes; None where they can't be had, or it can't be pickled."""
    if os.name != "posix":
        return None
    with dependencies.importing("cloudpickle", "gymnasium"):
        import cloudpickle
    try:
        found: bytes = cloudpickle.dumps(build)
    except Exception:  # whatever an object of the user's raises as it is pickled
        return None
    return found

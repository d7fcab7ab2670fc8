"""What the processes of a run say of themselves every few seconds, in work/workers/HOST-PID.json."""

import os
import socket
from typing import Any, NamedTuple

TOLD = 5.0  # seconds between two reports of what a process does
SILENT = 60.0  # seconds without a report after which a process is taken for gone: clocks may differ by some of them
OLD = 600.0  # seconds after which what it said is removed


class Status(NamedTuple):
    """What a process said last. The rates are of what it made itself, over the last minute."""

    who: str  # HOST-PID
    began: float  # when it began to work; seconds since 1970, by its own clock
    time: float  # when it said this
    device: str
    chunks: dict[int, int]  # number -> updates that the chunk has had, of those that it trains
    updates_per_second: float  # of all lanes
    steps_per_second: float  # of the environments
    work_per_second: float  # in the unit of `Board.cost`
    episode_return: float | None  # the mean over the lanes of its last segment
    failed_lanes: int  # of the chunks that it trained

    def gone(self, now: float) -> bool:
        """Whether the process has ended or died: it is silent, or was one of this machine and is there no more."""
        return now - self.time > SILENT or (now - self.time > TOLD / 2 and not _there(self.who))


def statuses(told: dict[str, dict[str, Any]]) -> list[Status]:
    """What `Ledger.told` has found, the newest last; what another pgjax said is left out."""
    found = []
    for who, said in told.items():
        if set(said) == set(Status._fields) - {"who"}:
            found.append(Status(who, **{**said, "chunks": {int(n): made for n, made in said["chunks"].items()}}))
    return sorted(found, key=lambda status: status.time)


def _there(who: str) -> bool:
    """Whether a process may be there; of another machine nothing is known."""
    host, _, pid = who.rpartition("-")
    if host != socket.gethostname() or os.name != "posix":
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

"""What the folder of a run says of its chunks and of the processes that train them; reading it writes nothing."""

import collections
import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from pgjax.engine.files import names, read

ATTEMPTS = 3  # failures after which a chunk is given up
DEATHS = 10  # workers that die at the same update of a chunk before it is given up


class Event(NamedTuple):
    """A line of a chunk's log."""

    time: str  # ISO 8601, UTC
    who: str  # HOST-PID
    what: str  # "began", "ended", "stopped" or "failed"
    update: int
    text: str  # the device, and from whom the chunk was taken over; or the error, and where its traceback is


class Ledger:
    """Reads what `leases.Shared` writes."""

    def __init__(self, folder: pathlib.Path):
        self.path = folder / "work"

    def done(self) -> set[int]:
        """The numbers of the chunks that have come to their ends."""
        return set(self._numbers("done"))

    def failures(self) -> dict[int, int]:
        """How often each chunk failed."""
        return collections.Counter(self._numbers("failed"))

    def fatal(self, number: int) -> bool:
        """Whether the last `DEATHS` workers that began the chunk died before they could save it."""
        last = self.events(number)[-DEATHS:]
        return len(last) == DEATHS and all(e.what == "began" and e.update == last[0].update for e in last)

    def errors(self) -> dict[int, str]:
        """Chunk -> its last error in one line, of every chunk that was given up."""
        given_up = [number for number, times in self.failures().items() if times >= ATTEMPTS]
        read = lambda number: self._read(self.path / "failed" / f"{number:05}.{ATTEMPTS}")  # noqa: E731
        return {number: (read(number).splitlines() or [""])[0] for number in sorted(given_up)}

    def held(self) -> set[int]:
        """The chunks that some process has a lease of."""
        return set(self._numbers("claims"))

    def events(self, number: int) -> list[Event]:
        """What happened to a chunk, in order."""
        parts = [line.split(" ", 4) for line in self._read(self.path / "logs" / f"{number:05}.log").splitlines()]
        return [
            Event(p[0], p[1], p[2], int(p[3]), p[4] if len(p) > 4 else "")
            for p in parts
            if len(p) > 3 and p[3].isdecimal()
        ]

    def logged(self) -> int:
        """Letters of all logs, which change with every event."""
        return sum(len(self._read(self.path / "logs" / name)) for name in self._names("logs"))

    def taken(self) -> set[int]:
        """The chunks that were taken over from a process that had begun them, and said no more of them."""
        return set(self._numbers("taken"))

    def owner(self, number: int) -> str | None:
        """HOST-PID of the process that has the lease of a chunk, or None."""
        with contextlib.suppress(OSError):
            text = read(self._place("claims", number)).decode()
            found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
            if {"host", "pid"} <= found.keys():  # else it is being written
                return f"{found['host']}-{found['pid']}"
        return None

    def told(self) -> dict[str, dict[str, Any]]:
        """HOST-PID -> what every process, also one that was killed, said last."""
        found = {}
        for name in self._names("workers"):
            with contextlib.suppress(OSError, ValueError):  # it has just been replaced or removed
                found[name.removesuffix(".json")] = json.loads(read(self.path / "workers" / name))
        return found

    def _place(self, kind: str, number: int) -> pathlib.Path:
        return self.path / kind / f"{number:05}"

    def _numbers(self, kind: str) -> Iterator[int]:
        for name in self._names(kind):
            if (text := name.partition(".")[0]).isdecimal():
                yield int(text)

    def _names(self, kind: str) -> list[str]:
        """The names in a folder, which may not be there: an older pgjax made the run, or it is at an address."""
        with contextlib.suppress(FileNotFoundError):
            return [name for name in names(self.path / kind) if not name.startswith(".")]
        return []

    def _read(self, file: pathlib.Path) -> str:
        with contextlib.suppress(FileNotFoundError):
            return read(file).decode()
        return ""

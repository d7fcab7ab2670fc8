"""Who works at which chunk: leases on the folder of a run, which many processes may share.

work/claims/00003          the lease of the process that trains chunk 3
work/done/00003            chunk 3 has come to its end
work/failed/00003.1        the error of its first failure
work/logs/00003.log        what happened to it, a line for each event
work/taken/00003           it was taken over from a process that had not ended it
work/workers/HOST-PID.json what a process does now

A lease is a file that its owner makes anew (O_EXCL) and touches every ten seconds (`filelock.SoftFileLease`). It is
taken over once it was seen untouched for `EXPIRES` seconds by the clock of whoever wants it, or at once where its
owner was a process of the same machine that is gone. That is right on local disks and wherever exclusive creation is:
NFS from version 3 on, Lustre, GPFS, BeeGFS, CephFS. No kernel lock is used, which such file systems may lack or keep
to one machine. Where a lease is taken from an owner that was only slow, both train the same chunk, to the same
numbers. At an address a lease is an `AddressLease`.
"""

import contextlib
import datetime
import json
import os
import pathlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import filelock

from pgjax.engine import files
from pgjax.engine.address_leases import AddressLease
from pgjax.engine.files import replace_text
from pgjax.engine.ledger import Ledger

EXPIRES = 30.0  # seconds

Lease = filelock.SoftFileLease | AddressLease


class Alone:
    """The claims of a run without a folder, which the threads of one process train."""

    def __init__(self):
        self.ended: set[int] = set()

    def done(self) -> set[int]:
        """The numbers of the chunks that have come to their ends."""
        return set(self.ended)

    def finish(self, number: int) -> None:
        """Say that a chunk has come to its end."""
        self.ended.add(number)

    def reopen(self, number: int) -> None:
        """Say that a chunk has to be trained after all."""
        self.ended.discard(number)

    def failures(self) -> dict[int, int]:
        """How often each chunk failed; an error of a run without a folder is raised at once."""
        return {}

    def errors(self) -> dict[int, str]:
        """Chunk -> its last error, where it was given up."""
        return {}

    def held(self) -> set[int]:
        """The chunks that other processes train."""
        return set()

    def claim(self, number: int) -> Any:
        """The lease of a chunk, to be released; None where another process has it."""
        return _Nothing()

    def note(self, number: int, what: str, update: int, text: str = "") -> None:
        """Write an event into the chunk's log."""


class _Nothing:
    def release(self) -> None:
        pass


class Shared(Ledger):
    """The claims of a run folder. Its methods are those of `Alone`, and more."""

    def __init__(self, folder: pathlib.Path):
        super().__init__(folder)
        self.who = f"{socket.gethostname()}-{os.getpid()}"
        self.locks: dict[int, Lease] = {}  # of other owners: each remembers since when it is untouched
        self.began = time.time()
        for name in ("claims", "done", "failed", "logs", "taken", "workers") if not files.remote(folder) else ():
            (self.path / name).mkdir(parents=True, exist_ok=True)

    def finish(self, number: int) -> None:
        """Say that a chunk has come to its end."""
        files.touch(self._place("done", number))

    def reopen(self, number: int) -> None:
        """Say that a chunk has to be trained after all, since its checkpoint is damaged."""
        files.remove(self._place("done", number))

    def fail(self, number: int, error: str, trace: str = "") -> str:
        """Note a failure, its error as one line, and its traceback; returns the file, from the run folder on."""
        name = f"{number:05}.{self.failures().get(number, 0) + 1}"
        replace_text(self.path / "failed" / name, f"{' '.join(error.split())}\n\n{trace}")
        return f"work/failed/{name}"

    def forgive(self) -> None:
        """Forget all failures, so that their chunks are tried again."""
        for name in self._names("failed"):
            files.remove(self.path / "failed" / name)

    def claim(self, number: int) -> Lease | None:
        """The lease of a chunk, to be released; None where another process has it, or the chunk is done."""
        if number not in self.locks:
            self.locks[number] = lease(self._place("claims", number), timeout=0)
        lock = self.locks[number]
        try:
            lock.acquire()
        except filelock.Timeout:
            return None
        del self.locks[number]
        if files.exists(self._place("done", number)):
            lock.release()
            return None
        return lock

    def note(self, number: int, what: str, update: int, text: str = "") -> None:
        """Write an event into the chunk's log; of one that begins, also from whom it is taken over, if from anyone."""
        before = self.events(number)[-1:] if what == "began" else []
        if before and before[0].what == "began":
            files.touch(self._place("taken", number))
            text = f"{text}, taken over from {before[0].who}"
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        line = " ".join([now, self.who, what, str(update), " ".join(text.split())]).rstrip()
        files.append(self.path / "logs" / f"{number:05}.log", line)

    def tell(self, status: dict[str, Any]) -> None:
        """Say what this process does now."""
        replace_text(self.path / "workers" / f"{self.who}.json", json.dumps(status))

    def leave(self) -> None:
        """Say that this process works no more."""
        files.remove(self.path / "workers" / f"{self.who}.json")

    def forget(self, who: str) -> None:
        """Remove what a process that is gone said last."""
        files.remove(self.path / "workers" / f"{who}.json")


def lease(path: pathlib.Path, timeout: float = -1) -> Lease:
    """A lease on the file `path`; `acquire` waits for `timeout` seconds, or as long as it takes."""
    if files.remote(path):
        return AddressLease(path, EXPIRES, timeout)
    return filelock.SoftFileLease(path, lease_duration=EXPIRES, timeout=timeout, thread_local=False)


@contextlib.contextmanager
def planning(folder: pathlib.Path | None) -> Iterator[None]:
    """One process at a time may write the schedule and the results of a run; a run without a folder has one anyway."""
    if folder is None:
        yield
        return
    if not files.remote(folder):
        (folder / "work").mkdir(exist_ok=True)
    with lease(folder / "work" / "planning"):
        yield

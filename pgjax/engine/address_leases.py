"""Leases at an address, as those of `filelock` are on a disk: an object that its owner writes anew again and again.

Of those that want a lease one creates the object, where the server has conditional writes (S3, Google Cloud Storage). A
lease that wasn't written anew for as long as it lasts, by the clock of whoever wants it, is taken over. A server can't
keep an owner that was only slow, or two that take over in the same moment, from believing that they hold it both: what
it guards has to bear that, as checkpoints do.
"""

import contextlib
import os
import pathlib
import secrets
import socket
import threading
import time
from typing import Self

from pgjax.dependencies import importing
from pgjax.engine import files


class AddressLease:
    """A lease on an object, with the methods of `filelock.SoftFileLease`."""

    def __init__(self, path: pathlib.Path, expires: float, timeout: float = -1):
        """`expires`: seconds that it lasts; `timeout`: seconds to wait for it, or below 0 as long as it takes."""
        self.path, self.expires, self.timeout = path, expires, timeout
        self.mine, self.beat = f"host={socket.gethostname()}\npid={os.getpid()}\ntoken={secrets.token_hex(8)}\n", 0
        self.seen: tuple[bytes, float] = b"", 0.0  # another's lease, and when it was first seen so
        self.ended = threading.Event()
        self.heart: threading.Thread | None = None

    def acquire(self) -> Self:
        """Take the lease.

        Raises:
          filelock.Timeout: where another has it for longer than `timeout`; OSError where the server doesn't answer.
        """
        with importing("filelock"):
            import filelock

        began = time.monotonic()
        while not self._taken():
            if 0 <= self.timeout <= time.monotonic() - began:
                raise filelock.Timeout(str(self.path))
            time.sleep(min(1.0, self.expires / 10))
        self.ended.clear()
        self.heart = threading.Thread(target=self._keep, daemon=True)
        self.heart.start()
        return self

    def release(self) -> None:
        """Give the lease back, if it's still this one's."""
        if self.heart is None:
            return
        self.ended.set()
        self.heart.join()
        self.heart = None
        if self.held():
            files.remove(self.path)

    def held(self) -> bool:
        """Whether the object is of this lease."""
        with contextlib.suppress(FileNotFoundError):
            return files.read(self.path).decode().startswith(self.mine)
        return False

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _taken(self) -> bool:
        with contextlib.suppress(FileExistsError):
            files.create(self.path, f"{self.mine}beat=0\n")
            return True
        try:
            now = files.read(self.path)
            if now != self.seen[0]:
                self.seen = now, time.monotonic()
            if (_gone(now) or time.monotonic() - self.seen[1] > self.expires) and files.read(self.path) == now:
                files.remove(self.path)
                return self._taken()
        except FileNotFoundError:  # it has just been released: the next try decides
            pass
        return False

    def _keep(self) -> None:
        while not self.ended.wait(self.expires / 3):
            with contextlib.suppress(OSError):  # a server may answer again by the next time
                if not self.held():
                    return
                self.beat += 1
                files.replace_text(self.path, f"{self.mine}beat={self.beat}\n")


def _gone(text: bytes) -> bool:
    """Whether a lease is of a process of this machine that is no more."""
    found = dict(line.split("=", 1) for line in text.decode(errors="replace").splitlines() if "=" in line)
    if found.get("host") != socket.gethostname() or not found.get("pid", "").isdecimal():
        return False
    try:
        os.kill(int(found["pid"]), 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        pass
    return False

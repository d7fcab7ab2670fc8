"""Writes, reads and removes files and folders, whole or not at all, on a disk or at an address.

A path is a pathlib.Path, or a upath.UPath of an address such as s3://bucket/run: `sweeps.values.place` makes them. On a
disk a file or a folder is drafted beside its place, and renamed when all of it is on the disk. At an address it is sent
as whole objects, and of a folder the file that makes it complete, its `mark`, comes last and goes first.

Several processes, on several machines, may write the same place at once: each has drafts of its own, and removes those
of others only when they are old.
"""

import contextlib
import errno
import os
import pathlib
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pgjax.engine import addresses

OLD = 600.0  # seconds after which the draft of another process is taken for that of a killed one
TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


def remote(path: pathlib.Path) -> bool:
    """Whether a path is an address, and no place on a disk."""
    return not isinstance(path, pathlib.Path)


def replace_text(path: pathlib.Path, text: str) -> None:
    """Write a text file as a whole: see `replace_bytes`."""
    replace_bytes(path, text.encode())


def replace_bytes(path: pathlib.Path, content: bytes) -> None:
    """Write a file as a whole: others read what was there before, or all of the new content."""
    if remote(path):
        return addresses.write(path, content)
    draft = _draft(path)
    try:
        draft.write_bytes(content)
        now = draft.stat().st_mtime
        replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    tidy(path.parent, f".{path.name}.", now)


def append(path: pathlib.Path, line: str) -> None:
    """Add a line to a text file that no other process writes; at an address all of it is sent again."""
    if not remote(path):
        with open(path, "a") as file:
            file.write(f"{line}\n")
        return
    before = b""
    with contextlib.suppress(FileNotFoundError):
        before = read(path)
    replace_bytes(path, before + f"{line}\n".encode())


def touch(path: pathlib.Path) -> None:
    """See to it that a file is there, whatever is in it."""
    if remote(path):
        addresses.write(path, b"\n")
    else:
        path.touch()


def create(path: pathlib.Path, text: str) -> None:
    """Write a small file that must not be there: of several processes that try to, one succeeds.

    This holds on a disk with hard links, NFS included, and at addresses where the server has conditional writes (S3,
    Google Cloud Storage).

    Raises:
      FileExistsError: where it is there.
    """
    if remote(path):
        return addresses.write(path, text.encode(), exists=False)
    draft = _draft(path)
    try:
        draft.write_text(text)
        _sync(draft)
        os.link(draft, path)
        _sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def scratch(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """An empty folder of this machine, whose content `put` brings to `path`; if it is left, it's removed at the end."""
    if remote(path):
        with tempfile.TemporaryDirectory(prefix="pgjax-") as folder:
            yield pathlib.Path(folder)
        return
    draft = _draft(path)
    try:
        draft.mkdir(parents=True)
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def put(folder: pathlib.Path, path: pathlib.Path, mark: str, stays: Callable[[], bool] = lambda: False) -> None:
    """Bring a folder of `scratch` to its path, in place of what is there, except where `stays` says that this stays.

    Args:
      mark: the file that makes the folder complete.
    """
    if remote(path):
        addresses.upload(folder, path, mark, stays)
    else:
        replace(folder, path, stays)


def replace(draft: pathlib.Path, path: pathlib.Path, stays: Callable[[], bool] = lambda: False) -> None:
    """Rename a file or a folder of a disk when all of it is on the disk; so is the new name when this returns.

    Args:
      stays: asked where a folder is there: whether it stays, and the draft is left where it is.
    """
    _settle(draft)
    doomed = []
    try:
        while True:
            try:
                os.rename(draft, path)
                return _sync(path.parent)
            except OSError as error:
                if error.errno not in TAKEN:
                    raise
            if stays():
                return
            doomed.append(_aside(path))  # another process may put its own there before the next try
    finally:
        for place in doomed:
            remove(place)


def claim(draft: pathlib.Path, path: pathlib.Path) -> None:
    """Rename as `replace` does; OSError, its number one of `TAKEN`, where there is a folder that isn't empty."""
    _settle(draft)
    os.rename(draft, path)
    _sync(path.parent)


def remove(path: pathlib.Path, mark: str = "") -> None:
    """Remove a file or a folder, if it is there; a reader of the folder finds all of it, or no `mark` in it."""
    if remote(path):
        return addresses.remove(path, mark)
    if not path.is_dir() or path.is_symlink():
        return path.unlink(missing_ok=True)
    shutil.rmtree(_aside(path), ignore_errors=True)


def tidy(folder: pathlib.Path, start: str, now: float) -> None:
    """Remove what killed processes left in a folder of a disk.

    Args:
      start: how the names of such drafts begin.
      now: the time by the clock that stamps the folder's files, which may be a server's.
    """
    for name in os.listdir(folder):
        if name.startswith(start):
            place = folder / name
            with contextlib.suppress(OSError):
                parts = [place, *place.iterdir()] if place.is_dir() else [place]
                if now - max(part.stat().st_mtime for part in parts) > OLD:
                    remove(place)


def read(path: pathlib.Path) -> bytes:
    """The content of a file.

    Raises:
      FileNotFoundError: where it isn't there; OSError where it can't be read.
    """
    return addresses.read(path) if remote(path) else path.read_bytes()


def exists(path: pathlib.Path) -> bool:
    """Whether there is a file or a folder; OSError where an address can't be reached."""
    return addresses.exists(path) if remote(path) else path.exists()


def names(path: pathlib.Path) -> list[str]:
    """The names of what a folder holds.

    Raises:
      FileNotFoundError: where there is no such folder; OSError where it can't be read.
    """
    return addresses.names(path) if remote(path) else os.listdir(path)


def stamp(path: pathlib.Path) -> Any:
    """What is another after a folder was written again; None where there is no such folder."""
    with contextlib.suppress(FileNotFoundError):
        if remote(path):
            return addresses.every(path) or None
        found = path.stat()
        return found.st_ino, found.st_mtime_ns
    return None


@contextlib.contextmanager
def fetched(path: pathlib.Path, wanted: Iterable[str]) -> Iterator[pathlib.Path]:
    """A folder of this machine with the files `wanted` of a folder: that folder, or a copy that is removed again."""
    if not remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="pgjax-") as folder:
        addresses.download(path, wanted, folder)
        yield pathlib.Path(folder)


def reason(path: pathlib.Path, error: OSError) -> str:
    """What an error says of a path, in one line."""
    said = " ".join((error.strerror or str(error)).split())
    return "nothing is there" if remote(path) and addresses.only_path(path, said) else said


def _draft(path: pathlib.Path) -> pathlib.Path:
    """A name beside the path that no other process on any machine uses."""
    return path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}")


def _aside(path: pathlib.Path) -> pathlib.Path:
    """Take what is at a path away, if another process didn't; its name from here on."""
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, found := _draft(path))
    return found


def _settle(draft: pathlib.Path) -> None:
    """Wait until all of a file or a folder is on the disk."""
    for place in reversed([draft, *draft.rglob("*")] if draft.is_dir() else [draft]):
        _sync(place)


def _sync(place: pathlib.Path) -> None:
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Replaces files completely or not at all, and locks a folder for one process."""

import contextlib
import fcntl
import os
import pathlib
import shutil
from collections.abc import Iterator

from pgjax.engine import processes


def replace_text(path: pathlib.Path, text: str) -> None:
    """Write a file under another name, and rename it when it is whole and on the disk."""
    for left in path.parent.glob(f".{path.name}.*"):  # of a process that was killed as it wrote
        left.unlink(missing_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    replace(draft, path)


def replace(draft: pathlib.Path, path: pathlib.Path) -> None:
    """Rename a file or a folder after all of it is on the disk; the new name is on the disk when this returns."""
    folders = [draft, *(f for f in draft.rglob("*"))] if draft.is_dir() else [draft]
    for place in reversed(folders):
        _sync(place)
    if path.is_dir():
        shutil.rmtree(path)
    elif draft.is_dir():
        path.unlink(missing_ok=True)
    os.replace(draft, path)
    _sync(path.parent)


def _sync(place: pathlib.Path) -> None:
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(path: pathlib.Path | None) -> Iterator[None]:
    """Lock the run folder for this process.

    Raises:
      ValueError: where another process holds it.
    """
    if path is None or not processes.first():
        yield
        return
    with open(path / "config.json") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"path: another process trains the run in {str(path)!r}; wait for it, or stop it"
            ) from None
        yield

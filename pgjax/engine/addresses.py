"""Files and folders at an fsspec address: objects that are sent and read whole, each in one request.

A path here is a upath.UPath, as `sweeps.values.place` makes it. `files` calls these functions; the rest of the package
calls those of `files`.
"""

import contextlib
import errno
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

# They have no folders; and s3fs would make a bucket when it is asked for a folder in one that isn't there.
FLAT = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "memory"}


def write(path: Any, content: bytes, exists: bool = True) -> None:
    """Write an object.

    Args:
      exists: whether it may be there; if not, FileExistsError is raised where it is.
    """
    with reached(path):
        _make_parent(path)
        try:
            path.fs.pipe_file(path.path, content, **({} if exists else {"mode": "create"}))
        except OSError as error:
            if not exists and "conflict" in str(error).lower():  # S3's word for two at the same moment
                raise FileExistsError(str(path)) from error
            raise


def read(path: Any) -> bytes:
    """The content of an object; FileNotFoundError where it isn't there."""
    with reached(path):
        return path.fs.cat_file(path.path)


def upload(folder: pathlib.Path, path: Any, mark: str, stays: Callable[[], bool]) -> None:
    """Send a folder, and then remove what else is there.

    Args:
      mark: the file that makes the folder complete; it's sent last.
      stays: asked where something is there: whether it stays, and nothing is sent.
    """
    sent = sorted((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file == folder / mark)
    with reached(path):
        places = [path / file.relative_to(folder).as_posix() for file in sent]
        there = path.fs.find(path.path)
        if there and stays():
            return
        for file, place in zip(sent, places, strict=True):
            _make_parent(place)
            path.fs.put_file(str(file), place.path)
        _delete(path, set(there) - {place.path for place in places})


def download(path: Any, names: Iterable[str], folder: str) -> None:
    """Fetch the files `names` of a folder, such as "a/b", into one of this machine, side by side."""
    places = {(path / name).path: pathlib.Path(folder, name) for name in names}
    for place in places.values():
        place.parent.mkdir(parents=True, exist_ok=True)
    with reached(path):
        path.fs.get(list(places), [str(place) for place in places.values()])


def remove(path: Any, mark: str = "") -> None:
    """Remove an object, or a folder, of which the file `mark` goes first."""
    with reached(path):
        _delete(path, [(path / mark).path] if mark else [])
        _delete(path, path.fs.find(path.path))


def exists(path: Any) -> bool:
    """Whether there is an object, or a folder of objects."""
    with reached(path):
        return path.exists()


def names(path: Any) -> list[str]:
    """The names in a folder; FileNotFoundError where there is none."""
    with reached(path):
        return [name for key in path.fs.ls(path.path, detail=False) if (name := key.rstrip("/").rpartition("/")[2])]


def every(path: Any) -> dict[str, tuple[Any, ...]]:
    """The path of every object in a folder, from the folder on -> its size and what else changes as it's written."""
    told, start = ("size", "ETag", "LastModified", "last_modified", "updated", "mtime", "created"), len(path.path) + 1
    with reached(path):
        found = path.fs.find(path.path, detail=True)
        return {key[start:]: tuple(str(x[name]) for name in told if name in x) for key, x in found.items()}


def age(path: Any) -> float:
    """Seconds since an object was written, by the clock of this machine; 0 where the server doesn't say."""
    import datetime

    with contextlib.suppress(NotImplementedError, KeyError, TypeError, FileNotFoundError), reached(path):
        then = path.fs.modified(path.path)
        return (datetime.datetime.now(then.tzinfo) - then).total_seconds()
    return 0.0


@contextlib.contextmanager
def reached(path: Any) -> Iterator[None]:
    """Turns what a server's client raises (no credentials, no answer) into an OSError of one line."""
    try:
        yield
    except (OSError, NotImplementedError):
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise OSError(errno.EIO, f"can't reach {str(path)!r}: {said}") from error


def only_path(path: Any, said: str) -> bool:
    """Whether an error's message is only the path, as it is where nothing is found there."""
    return said.strip("/") in ("", path.path.strip("/"))


def _make_parent(path: Any) -> None:
    if path.protocol not in FLAT:
        path.fs.makedirs(path.parent.path, exist_ok=True)


def _delete(path: Any, keys: Iterable[str]) -> None:
    for key in keys:
        with contextlib.suppress(FileNotFoundError):
            path.fs.rm_file(key)

"""Reads the files of one checkpoint as far as its manifest, which was written last, says that they are sound."""

import hashlib
import json
import pathlib
import zipfile

import numpy as np

from pgjax.engine import addresses, files

STATE, METRICS, MANIFEST = FILES = ("state.npz", "metrics.npz", "manifest.json")
UNSOUND = (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile)  # what a damaged one makes `opened` raise

Arrays = dict[str, np.ndarray]


def write(folder: pathlib.Path, update: int, seconds: float) -> dict[str, str]:
    """Write the manifest of a folder with both other files, which are there; the digest of each by its name."""
    digests = {name: _digest(folder / name) for name in (STATE, METRICS)}
    (folder / MANIFEST).write_text(json.dumps({"update": update, "seconds": seconds, "files": digests}))
    return digests


def opened(place: pathlib.Path, wanted: tuple[str, ...]) -> tuple[float, dict[str, Arrays]]:
    """The seconds of a checkpoint, and the arrays of its `wanted` files.

    On a disk a file that isn't wanted is checked too, since it may be later; from an address it isn't fetched.

    Raises:
      one of `UNSOUND`: where the checkpoint isn't as it was written, or is gone; OSError where it can't be reached.
    """
    manifest = json.loads(files.read(place / MANIFEST))
    seconds, digests = float(manifest["seconds"]), dict(manifest["files"])
    # A file that isn't in the manifest doesn't belong to the checkpoint.
    if strange := {STATE, METRICS} ^ set(digests):
        raise ValueError(f"{min(strange)} is not as it was written")
    found: dict[str, Arrays] = {}
    with files.fetched(place, wanted) as folder:
        for name in wanted if files.remote(place) else (STATE, METRICS):
            with open(folder / name, "rb") as content:  # held open, since another process may remove it by now
                if hashlib.file_digest(content, "sha256").hexdigest() != digests[name]:
                    raise ValueError(f"{name} is not as it was written")
                if name in wanted:
                    content.seek(0)
                    with np.load(content) as arrays:
                        found[name] = {key: arrays[key] for key in arrays.files}
    return seconds, found


def same(place: pathlib.Path, digests: dict[str, str]) -> bool:
    """Whether a sound checkpoint with files of these digests is there."""
    try:
        return json.loads(files.read(place / MANIFEST))["files"] == digests and bool(opened(place, (STATE, METRICS)))
    except UNSOUND:
        return False


def damaged(place: pathlib.Path, error: Exception) -> bool:
    """Whether a checkpoint that couldn't be opened is damaged, and not only gone by now or out of reach."""
    if not files.remote(place):
        return place.is_dir()
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        raise error
    return f"{place.name}/{MANIFEST}" in addresses.every(place.parent)


def number(name: str) -> int | None:
    """The update in the name of a checkpoint's folder; None for other names, such as that of a copy."""
    text = name.removeprefix("update-")
    return int(text) if text.isdecimal() and name == f"update-{int(text):08}" else None


def _digest(file: pathlib.Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()

"""Creates, writes and reads the folder of a run; no file in it is ever half written."""

import contextlib
import itertools
import json
import math
import os
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from pgjax.dependencies import PackageError
from pgjax.engine import files
from pgjax.hyperparameters import name_of
from pgjax.runs import dataset

_OTHER = "it is not as pgjax wrote it"


def create(path: pathlib.Path, config: dict[str, Any], copies: dict[str, bytes] | None = None) -> list[pathlib.Path]:
    """Make the run folder with its config.json and its sources, all or nothing.

    Args:
      copies: name -> text of the files in the folder `sources`; without any there is no such folder.

    Returns:
      the folders that were made, the run's first, then those above it: `discard` removes them again.

    Raises:
      ValueError: where the folder exists or can't be made.
    """
    shown, path = str(path), path.absolute()
    draft, made = path.with_name(f".{path.name}.{os.getpid()}"), []
    try:
        if path.exists():
            raise ValueError(f"out: folder {shown!r} exists; choose another or remove it")
        made = [path, *itertools.takewhile(lambda folder: not folder.exists(), path.parents)]
        draft.mkdir(parents=True)
        write_json(draft / "config.json", config)
        for name, text in (copies or {}).items():
            (draft / "sources").mkdir(exist_ok=True)
            (draft / "sources" / name).write_bytes(text)
        files.replace(draft, path)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        discard(made[1:])
        if isinstance(error, OSError):
            raise ValueError(f"out: can't make folder {shown!r}: {error.strerror}") from error
        raise
    return made


def discard(made: Sequence[pathlib.Path]) -> None:
    """Remove the folders that `create` made, except those that hold something else by now."""
    for place in made:
        if (place / "config.json").exists():
            shutil.rmtree(place / "sources", ignore_errors=True)
        (place / "config.json").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            place.rmdir()


def write_json(path: pathlib.Path, value: Any) -> None:
    """Write a value as JSON, the whole file or nothing: see `plain`."""
    files.replace_text(path, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """The value as strict JSON: arrays as lists, numbers that JSON lacks as text, functions by name."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else name_of(value)


def write(path: pathlib.Path, summary: dict[str, Any], metrics: Any, draw: Callable[[pathlib.Path], None]) -> None:
    """Write metrics.zarr, the figure that `draw` draws, and summary.json last: a folder that has it is complete."""
    (path / "summary.json").unlink(missing_ok=True)
    dataset.write(path / "metrics.zarr", metrics)
    draw(path / "curve.png")
    write_json(path / "summary.json", summary)


def read_json(path: pathlib.Path, needed: Sequence[str]) -> dict[str, Any]:
    """The content of config.json or summary.json.

    Raises:
      ValueError: in one line, where there is no such file, it is torn, or it lacks one of the `needed` keys.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(lacking(path)) from None
    except (OSError, ValueError) as error:
        fix = f"pgjax resume {path.parent} writes it anew" if path.name == "summary.json" else _OTHER
        raise ValueError(f"path: {str(path)!r} can't be read: {error}; {fix}") from error
    if not isinstance(found, dict):
        raise ValueError(f"path: {str(path)!r} holds no JSON object; {_OTHER}")
    require(path, found, needed)
    return found


def require(path: pathlib.Path, found: dict[str, Any], needed: Sequence[str]) -> None:
    """ValueError where the content of a JSON file lacks one of the `needed` keys."""
    for key in needed:
        if key not in found:
            raise ValueError(f"path: {str(path)!r} has no {key!r}; an older pgjax wrote it, or another program")


def read_metrics(path: pathlib.Path) -> Any:
    """The xarray Dataset of metrics.zarr in the folder `path`.

    Raises:
      ValueError: in one line, where there is none, it is torn, or it holds something else.
    """
    place = path / "metrics.zarr"
    if not place.is_dir():
        raise ValueError(lacking(place))
    try:
        metrics = dataset.load(place)
    except PackageError:
        raise
    except Exception as error:  # whatever a torn file makes zarr and its codecs raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"path: {str(place)!r} can't be read: {reason}; pgjax resume {path} writes it anew") from error
    if "finite" not in metrics or "seed" not in metrics.dims:
        raise ValueError(f"path: {str(place)!r} holds no metrics of lanes; pgjax resume {path} writes it anew")
    return metrics


def lacking(path: pathlib.Path) -> str:
    """The message for a file that the folder of a run lacks."""
    killed = (path.parent / "config.json").exists()
    fix = f"the run was killed: pgjax resume {path.parent} goes on" if killed else "give a run folder"
    return f"path: {str(path.parent)!r} holds no {path.name}, only {content(path.parent)}; {fix}"


def content(path: pathlib.Path) -> str:
    """The names of all files in a folder."""
    return ", ".join(sorted(file.name for file in path.iterdir())) or "nothing"

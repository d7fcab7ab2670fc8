"""Creates, writes and reads the folder of a run; no file in it is ever half written."""

import contextlib
import io
import itertools
import json
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import IO, Any

import jax
import numpy as np

from pgjax.dependencies import PackageError
from pgjax.engine import files
from pgjax.hyperparameters import name_of
from pgjax.runs import dataset

_OTHER = "it is not as pgjax wrote it"


def create(path: pathlib.Path, config: dict[str, Any], copies: dict[str, bytes] | None = None) -> list[pathlib.Path]:
    """Make the run folder with its config.json and its sources, all or nothing; of several processes one succeeds.

    At an address config.json comes first, and then the sources.

    Args:
      copies: name -> text of the files in the folder `sources`; without any there is no such folder.

    Returns:
      the folders that were made, the run's first, then those above it: `discard` removes them again.

    Raises:
      ValueError: where the folder exists or can't be made.
    """
    shown, made = str(path), [path]
    taken = ValueError(f"out: folder {shown!r} exists; choose another or remove it")
    try:
        if files.exists(path):
            raise taken
        if files.remote(path):
            files.create(path / "config.json", _text(config))
            try:
                for name, text in (copies or {}).items():
                    files.replace_bytes(path / "sources" / name, text)
            except BaseException:
                discard(made)
                raise
            return made
        path = path.absolute()
        made = [path, *itertools.takewhile(lambda folder: not folder.exists(), path.parents)]
        with files.scratch(path) as draft:
            write_json(draft / "config.json", config)
            for name, text in (copies or {}).items():
                (draft / "sources").mkdir(exist_ok=True)
                (draft / "sources" / name).write_bytes(text)
            files.claim(draft, path)
    except BaseException as error:
        if not files.remote(path):
            discard(made[1:])
        if isinstance(error, OSError):
            if isinstance(error, FileExistsError) or (error.errno in files.TAKEN and files.exists(path)):
                raise taken from error
            raise ValueError(f"out: can't make folder {shown!r}: {files.reason(path, error)}") from error
        raise
    return made


def discard(made: Sequence[pathlib.Path]) -> None:
    """Remove the folders that `create` made, except those that hold something else by now."""
    for place in made:
        if files.exists(place / "config.json"):
            files.remove(place / "sources")
            files.remove(place / "work")
        files.remove(place / "config.json")
        if not files.remote(place):
            with contextlib.suppress(OSError):
                place.rmdir()


def write_json(path: pathlib.Path, value: Any) -> None:
    """Write a value as JSON, the whole file or nothing: see `plain`."""
    files.replace_text(path, _text(value))


def _text(value: Any) -> str:
    return json.dumps(plain(value), indent=2, allow_nan=False) + "\n"


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


def write(path: pathlib.Path, summary: dict[str, Any], metrics: Any, draw: Callable[[IO[bytes]], None]) -> None:
    """Write metrics.zarr, the figure that `draw` draws, and summary.json last: a folder that has it is complete."""
    files.remove(path / "summary.json")
    dataset.write(path / "metrics.zarr", metrics)
    draw(figure := io.BytesIO())
    files.replace_bytes(path / "curve.png", figure.getvalue())
    write_json(path / "summary.json", summary)


def read_json(path: pathlib.Path, needed: Sequence[str]) -> dict[str, Any]:
    """The content of config.json or summary.json.

    Raises:
      ValueError: in one line, where there is no such file, it is torn, or it lacks one of the `needed` keys.
    """
    try:
        found = json.loads(files.read(path).decode())
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
    try:
        metrics = dataset.load(place)
    except PackageError:
        raise
    except Exception as error:  # whatever a torn file makes zarr and its codecs raise
        if not files.exists(place):
            raise ValueError(lacking(place)) from None
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"path: {str(place)!r} can't be read: {reason}; pgjax resume {path} writes it anew") from error
    if "finite" not in metrics or "seed" not in metrics.dims:
        raise ValueError(f"path: {str(place)!r} holds no metrics of lanes; pgjax resume {path} writes it anew")
    return metrics


def lacking(path: pathlib.Path) -> str:
    """The message for a file that the folder of a run lacks."""
    killed = files.exists(path.parent / "config.json")
    fix = f"the run was killed: pgjax resume {path.parent} goes on" if killed else "give a run folder"
    return f"path: {str(path.parent)!r} holds no {path.name}, only {content(path.parent)}; {fix}"


def content(path: pathlib.Path) -> str:
    """The names of all files in a folder."""
    return ", ".join(sorted(files.names(path))) or "nothing"

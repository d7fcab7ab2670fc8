"""The folder of a run: created, written and left without half a file."""

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

from pgjax.engine import files
from pgjax.hyperparameters import name_of
from pgjax.runs.result import Result


def create(path: pathlib.Path, config: dict[str, Any]) -> list[pathlib.Path]:
    """Make the run folder with its config.json, both or neither; a folder that exists is left alone.

    Returns:
      the folders that were made, the run's first, then those above it: what `discard` takes back.
    """
    shown, path = str(path), path.absolute()
    draft, made = path.with_name(f".{path.name}.{os.getpid()}"), []
    try:
        if path.exists():
            raise ValueError(f"out: folder {shown!r} exists; choose another or remove it")
        made = [path, *itertools.takewhile(lambda folder: not folder.exists(), path.parents)]
        draft.mkdir(parents=True)
        write_json(draft / "config.json", config)
        files.replace(draft, path)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        discard(made[1:])
        if isinstance(error, OSError):
            raise ValueError(f"out: can't make folder {shown!r}: {error.strerror}") from error
        raise
    return made


def discard(made: Sequence[pathlib.Path]) -> None:
    """Take back what `create` made, but for folders that hold something else by now."""
    for place in made:
        (place / "config.json").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            place.rmdir()


def write_json(path: pathlib.Path, value: Any) -> None:
    files.replace_text(path, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """Strict JSON: arrays as lists, numbers that JSON lacks as text, functions by name."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else name_of(value)


def write(result: Result, draw: Callable[[pathlib.Path], None]) -> None:
    """metrics.zarr, what `draw` draws, and last summary.json: where that is, all is."""
    (result.path / "summary.json").unlink(missing_ok=True)
    draft = result.path / ".metrics.zarr"
    shutil.rmtree(draft, ignore_errors=True)
    result.metrics.to_zarr(draft, mode="w", zarr_format=3, consolidated=False)
    files.replace(draft, result.path / "metrics.zarr")
    draw(result.path / "curve.png")
    write_json(result.path / "summary.json", result.summary)

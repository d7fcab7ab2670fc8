"""Code of the user's, loaded from `module:name` or `file.py:name`."""

import importlib
import importlib.util
import pathlib
import sys
from typing import Any

from pgjax.errors import unknown


def load(spec: str, option: str) -> Any:
    """The object that `module:name` or `path/to/file.py:name` stands for."""
    where, _, name = spec.rpartition(":")
    if not where or not name:
        raise ValueError(f"{option} must be module:name or file.py:name, got {spec!r}")
    try:
        if where.endswith(".py"):
            path = pathlib.Path(where)
            if not path.is_file():
                raise ValueError(f"{option}: no file {where!r}")
            module_spec = importlib.util.spec_from_file_location(path.stem, path)
            if module_spec is None or module_spec.loader is None:
                raise ValueError(f"{option}: {where!r} is no Python file")
            module = importlib.util.module_from_spec(module_spec)
            sys.modules.setdefault(path.stem, module)
            module_spec.loader.exec_module(module)
        else:
            sys.path.insert(0, "")
            try:
                module = importlib.import_module(where)
            finally:
                sys.path.remove("")
    except ImportError as error:
        raise ValueError(f"{option}: can't import {where!r}: {error}") from error
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(option):
            raise
        raise ValueError(f"{option}: {where!r} raised {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise ValueError(unknown(f"{option}: {where} has no", name, public))
    return getattr(module, name)


def anchor(spec: str | None) -> str | None:
    """The same spec wherever the process that loads it stands."""
    where, _, name = (spec or "").rpartition(":")
    return f"{pathlib.Path(where).absolute()}:{name}" if where.endswith(".py") else spec

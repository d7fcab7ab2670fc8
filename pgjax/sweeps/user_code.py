"""Code of the user's, loaded from `module:name` or `file.py:name`."""

import importlib
import pathlib
import sys
import types
from typing import Any

from pgjax.errors import unknown
from pgjax.sweeps import neighbours

# What a run may be given in place of a part of its algorithm; `pgjax.plugs` says what each is given.
PLUGS = ("loss", "advantage", "estimator", "optimizer", "updater")
OBJECTS = ("algorithm", "env", "policy", *PLUGS)


def load(spec: str, option: str) -> Any:
    """The object that `module:name` or `path/to/file.py:name` stands for.

    A file may import the files beside it: see `pgjax.sweeps.neighbours`.

    Raises:
      ValueError: naming the option, for another text, and for what is not there or raises as it is imported.
    """
    where, _, name = spec.rpartition(":")
    if not where or not name:
        raise ValueError(f"{option} must be module:name or file.py:name, got {spec!r}")
    if where.endswith(".py") and not pathlib.Path(where).is_file():
        raise ValueError(f"{option}: no file {where!r}")
    try:
        found = module(spec)
    except ImportError as error:
        raise ValueError(f"{option}: can't import {where!r}: {error}") from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"{option}: {where!r} raised {type(error).__name__}: {error}") from error
    if not hasattr(found, name):
        public = [key for key in vars(found) if not key.startswith("_")]
        raise ValueError(unknown(f"{option}: {where} has no", name, public))
    return getattr(found, name)


def loaded(specs: dict[str, str], options: dict[str, str]) -> dict[str, Any]:
    """Those of `OBJECTS` that are no name of `pgjax list` but stand in code of the user's, imported.

    Args:
      specs: one of OBJECTS -> what the user wrote; options: the same -> what to call it in a message.
    """
    from pgjax.algorithms.replacement import NAMED  # which imports optax, and `pgjax --help` this module

    named = ("algorithm", *NAMED)
    return {name: load(spec, options[name]) for name, spec in specs.items() if ":" in spec or name not in named}


def module(spec: str) -> types.ModuleType:
    """The module in which the object stands; whatever it raises as it is imported is passed on."""
    where = spec.rpartition(":")[0]
    if where.endswith(".py"):
        return neighbours.module(pathlib.Path(where))
    sys.path.insert(0, "")
    try:
        return importlib.import_module(where)
    finally:
        sys.path.remove("")


def anchor(spec: str | None) -> str | None:
    """The same spec wherever the process that loads it stands."""
    where, _, name = (spec or "").rpartition(":")
    return f"{pathlib.Path(where).absolute()}:{name}" if where.endswith(".py") else spec

"""Digests the source files of a user's function or object, so that a run is resumed with the code it was begun with."""

import contextlib
import functools
import hashlib
import inspect
import pathlib
import sys
import sysconfig
import types
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

# Plain values, which hold no functions.
VALUES = (str, bytes, int, float, complex, type(None), np.ndarray, np.generic, jax.Array, types.ModuleType)


# Installed packages have versions, which config.json records.
INSTALLED = {pathlib.Path(sysconfig.get_path("stdlib")).resolve(), pathlib.Path(__file__).resolve().parents[1]}


def digests(thing: Any) -> dict[str, str]:
    """Name of a file -> digest of its text, for every file of the user's own that `thing` is made of.

    These are the files of the functions and classes found in it (in closures, partials, tuples and attributes too),
    and of the modules that these files import, except installed packages. A function of a script or a notebook is
    digested alone, under its own name: the rest of a script may differ from run to run.
    """
    found: dict[str, str] = {}
    try:
        parts = list(_parts(thing, {}))
    except RecursionError:  # objects nested a thousand deep: the module of the first stands for all
        first = thing if isinstance(thing, (types.FunctionType, type)) else type(thing)
        parts = [first] if _own(_namespace(first)) else []
    for part in parts:
        space = _namespace(part)
        if space.get("__name__") == "__main__":
            try:
                found[part.__qualname__] = _digest(inspect.getsource(part).encode())
            except (OSError, TypeError):  # typed into an interpreter
                continue
        else:
            for file in _files(space, set()):
                with contextlib.suppress(OSError):  # inside an archive, or gone since it was imported
                    found[file] = _digest(pathlib.Path(file).read_bytes())
    return found


def changed(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Names in `now` whose digest is new, or else names in `before` whose digest is gone; moved files don't count."""
    new = [name for name, digest in now.items() if digest not in before.values()]
    return new or [name for name, digest in before.items() if digest not in now.values()]


def _parts(thing: Any, seen: dict[int, Any]) -> Iterator[Any]:
    """The user's own functions and classes in an object; `seen` holds the objects already visited, by id."""
    if isinstance(thing, VALUES) or id(thing) in seen:
        return
    seen[id(thing)] = thing  # held, since another object could get the id of one that is gone
    if isinstance(thing, functools.partial):
        yield from _parts([thing.func, *thing.args, *thing.keywords.values()], seen)
    elif isinstance(thing, (tuple, list)):
        for part in thing:
            yield from _parts(part, seen)
    elif isinstance(thing, dict):
        yield from _parts(list(thing.values()), seen)
    elif isinstance(thing, types.MethodType):
        yield from _parts([thing.__func__, thing.__self__], seen)
    elif isinstance(thing, types.FunctionType):
        if _own(thing.__globals__):
            yield thing
        held = [cell.cell_contents for cell in thing.__closure__ or () if _filled(cell)]
        yield from _parts([*held, thing.__defaults__ or (), thing.__kwdefaults__ or {}], seen)
    else:
        kinds = [kind for kind in (thing if isinstance(thing, type) else type(thing)).__mro__ if _own(_namespace(kind))]
        yield from kinds
        inner = [_wrapped(thing)]
        if kinds and not isinstance(thing, type):
            inner += getattr(thing, "__dict__", {}).values()
        yield from _parts([x for x in inner if x is not None], seen)


def _wrapped(thing: Any) -> Any:
    """The function that jax.jit or another decorator wrapped."""
    try:
        return getattr(thing, "__wrapped__", None)
    except Exception:  # an object's own __getattr__ may raise anything
        return None


def _files(space: dict[str, Any], seen: set[str]) -> set[str]:
    """The files of a module, given by its namespace, and of all of the user's own modules that it imports."""
    if not _own(space) or space.get("__file__") in (None, *seen):
        return seen
    seen.add(space["__file__"])
    for value in list(space.values()):
        if isinstance(value, types.ModuleType):
            _files(vars(value), seen)
        elif isinstance(value, (types.FunctionType, type)):
            _files(_namespace(value), seen)
    return seen


def _namespace(part: Any) -> dict[str, Any]:
    """The namespace of the module that defines a function or a class; it may no longer be in sys.modules."""
    if isinstance(part, types.FunctionType):
        return part.__globals__
    methods = (x for x in vars(part).values() if isinstance(x, types.FunctionType) and x.__module__ == part.__module__)
    method = next(methods, None)
    return method.__globals__ if method else vars(sys.modules.get(part.__module__, types.ModuleType("")))


def _own(space: dict[str, Any]) -> bool:
    """Whether a module is a file of the user's, a notebook or a script."""
    file = space.get("__file__")
    if not isinstance(file, str):
        return space.get("__name__") == "__main__"
    parents = pathlib.Path(file).resolve().parents
    installed = INSTALLED & set(parents) or any(x.name in ("site-packages", "dist-packages") for x in parents)
    return file.endswith(".py") and not installed


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()

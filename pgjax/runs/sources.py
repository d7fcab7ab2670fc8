"""Finds the source files of a user's function or object, of which a run keeps copies and digests."""

import ast
import contextlib
import functools
import hashlib
import inspect
import itertools
import pathlib
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from pgjax.sweeps import neighbours, user_code

# Plain values, which hold no functions.
VALUES = (str, bytes, int, float, complex, type(None), np.ndarray, np.generic, jax.Array, types.ModuleType)

MOST = 2**20  # bytes of a file of which a run keeps a copy


def digests(thing: Any, spec: str | None = None) -> dict[str, str]:
    """Name of a file -> digest of its text, for every file of `texts`."""
    return {file: hashlib.sha256(text).hexdigest() for file, text in texts(thing, spec).items()}


def copies(things: Iterable[tuple[Any, str | None]]) -> dict[str, bytes]:
    """Name of a copy -> text of every file that the objects are made of; a larger one than 1 MiB is left out.

    Two files of one name are NAME.py and NAME-2.py.

    Args:
      things: of each object also its spec: see `texts`.
    """
    found: dict[str, bytes] = {}
    for file, text in {file: text for thing, spec in things for file, text in texts(thing, spec).items()}.items():
        if len(text) <= MOST:
            stem = pathlib.Path(file).stem if file.endswith(".py") else file.rpartition(".")[2]
            names = (f"{stem}.py" if i == 1 else f"{stem}-{i}.py" for i in itertools.count(1))
            found[next(name for name in names if name not in found)] = text
    return found


def texts(thing: Any, spec: str | None = None) -> dict[str, bytes]:
    """Name of a file -> its text, for every file of the user's own that `thing` is made of.

    These are the files of the functions and classes found in it (in closures, partials, tuples and attributes too),
    and of the modules that these files import, except installed packages. Of a function of a script or a notebook
    there is its own text alone, under its own name: the rest of a script may differ from run to run.

    Args:
      spec: the module:name or file.py:name where the object stands, if it has one: a module of the user's may put an
        estimator together of nothing but installed functions.
    """
    found: dict[str, bytes] = {}
    files: set[str] = set()
    with contextlib.suppress(Exception):  # the object was passed again, and the file is gone
        files = _files(vars(user_code.module(spec)), set()) if spec else files
    try:
        parts = list(_parts(thing, {}))
    except RecursionError:  # objects nested a thousand deep: the module of the first stands for all
        first = thing if isinstance(thing, (types.FunctionType, type)) else type(thing)
        parts = [first] if neighbours.own(_namespace(first)) else []
    for part in parts:
        space = _namespace(part)
        if space.get("__name__") == "__main__":
            try:
                found[part.__qualname__] = inspect.getsource(part).encode()
            except (OSError, TypeError):  # typed into an interpreter
                continue
        else:
            files |= _files(space, set())
    for file in sorted(files):
        with contextlib.suppress(OSError):  # inside an archive, or gone since it was imported
            found[file] = pathlib.Path(file).read_bytes()
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
        if neighbours.own(thing.__globals__):
            yield thing
        held = [cell.cell_contents for cell in thing.__closure__ or () if _filled(cell)]
        yield from _parts([*held, thing.__defaults__ or (), thing.__kwdefaults__ or {}], seen)
    else:
        kinds = [
            kind
            for kind in (thing if isinstance(thing, type) else type(thing)).__mro__
            if neighbours.own(_namespace(kind))
        ]
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
    if not neighbours.own(space) or space.get("__file__") in (None, *seen):
        return seen
    seen.add(space["__file__"])
    for module in _imported(space):
        _files(vars(module), seen)
    for value in list(space.values()):
        if isinstance(value, types.ModuleType):
            _files(vars(value), seen)
        elif isinstance(value, (types.FunctionType, type)):
            _files(_namespace(value), seen)
    return seen


def _imported(space: dict[str, Any]) -> Iterator[types.ModuleType]:
    """The modules that the import statements of a module name, of which it may hold a number alone."""
    package = space.get("__package__") or ""
    try:
        tree = ast.parse(pathlib.Path(space["__file__"]).read_bytes())
    except (OSError, SyntaxError, ValueError):  # gone or edited since it was imported
        return
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names = [base, *(f"{base}.{name}" for name in names)]
        for name in names:
            beside = f"{package.partition('.')[0]}.{name}" if package.startswith(neighbours.PREFIX) else name
            if found := sys.modules.get(beside) or sys.modules.get(name):
                yield found


def _namespace(part: Any) -> dict[str, Any]:
    """The namespace of the module that defines a function or a class; it may no longer be in sys.modules."""
    if isinstance(part, types.FunctionType):
        return part.__globals__
    methods = (x for x in vars(part).values() if isinstance(x, types.FunctionType) and x.__module__ == part.__module__)
    method = next(methods, None)
    return method.__globals__ if method else vars(sys.modules.get(part.__module__, types.ModuleType("")))


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False

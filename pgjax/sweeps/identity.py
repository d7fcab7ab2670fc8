"""What a function or an object does, as a key: two things of one key are traced to the same program.

Of the code of installed packages the name is enough. Of the user's own, in a file, a script or a notebook, everything
that it reads is part of the key: its text, what it closes over, the globals that it names and the attributes of its
objects. Where that can't be told, such as of a module of the user's, whose attributes may change, there is no key.
"""

import collections
import enum
import functools
import hashlib
import inspect
import sys
import threading
import types
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.sweeps import neighbours

T = TypeVar("T")

PLAIN = (str, bytes, int, float, complex, type(None), type(Ellipsis), type(NotImplemented))
NAMED = (np.dtype, np.ufunc, enum.Enum)  # one object for each name
# Attributes of a class or a function that say nothing of what it does, or that are looked at on their own.
LEFT_OUT = {"__dict__", "__weakref__", "__doc__", "__module__", "__wrapped__", "__signature__", "__annotations__"}


class Kept(Generic[T]):
    """The things that were asked for last, by their keys: what is there is not made again."""

    def __init__(self, most: int):
        """Args:
        most: how many; the one that nobody asked for the longest is let go.
        """
        self.most = most
        self.things: collections.OrderedDict[Hashable, T] = collections.OrderedDict()
        self.lock = threading.Lock()

    def forget(self) -> None:
        """Let go of everything."""
        with self.lock:
            self.things.clear()

    def get(self, key: Hashable | None, make: Callable[[], T]) -> T:
        """The thing of a key, made now unless it is there; one without a key is made and not kept."""
        if key is None:
            return make()
        with self.lock:
            if key in self.things:
                self.things.move_to_end(key)
                return self.things[key]
        made = make()
        with self.lock:
            self.things[key] = made
            while len(self.things) > self.most:
                self.things.popitem(last=False)
        return made


class _Unknown(Exception):
    """An object that may do one thing now and another later."""


def key_of(*things: Any) -> Hashable | None:
    """The key of some objects together, which it keeps alive; None where they can't be told."""
    try:
        return tuple(_key(thing, {}) for thing in things), _settings()
    except (_Unknown, RecursionError):
        return None


def _settings() -> Hashable:
    """Everything that jax was told that may change a program."""
    return tuple((name, repr(x)) for name, x in jax.config.values.items() if name != "jax_compilation_cache_dir")


def _key(x: Any, seen: dict[int, tuple[int, Any]]) -> Hashable:
    if isinstance(x, PLAIN):
        return type(x), repr(x)  # 1, 1.0 and True are equal, and so are 0.0 and -0.0
    if isinstance(x, NAMED):
        return x
    if id(x) in seen:
        return "again", seen[id(x)][0]
    seen[id(x)] = len(seen), x  # held, since another object could get the id of one that is gone
    if isinstance(x, (np.ndarray, np.generic, jax.Array)):
        return _array(x)
    if isinstance(x, dict):
        return type(x), tuple((_key(name, seen), _key(value, seen)) for name, value in x.items())
    if isinstance(x, (tuple, list)):
        return _key(type(x), seen), tuple(_key(value, seen) for value in x)
    if isinstance(x, (set, frozenset)):
        return type(x), tuple(_key(value, seen) for value in sorted(x, key=repr))
    if isinstance(x, functools.partial):
        return functools.partial, _key((x.func, x.args, x.keywords, vars(x)), seen)
    if isinstance(x, types.MethodType):
        return types.MethodType, _key((x.__func__, x.__self__), seen)
    if isinstance(x, (staticmethod, classmethod)):
        return type(x), _key(x.__func__, seen)
    if isinstance(x, property):
        return property, _key((x.fget, x.fset), seen)
    if isinstance(x, types.FunctionType):
        return _function(x, seen)
    if isinstance(x, type):
        return _class(x, seen)
    return _object(x, seen)


def _array(x: Any) -> Hashable:
    if isinstance(x, jax.core.Tracer) or x.dtype == object:
        raise _Unknown
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return str(jax.random.key_impl(x)), _array(jax.random.key_data(x))
    return str(x.dtype), x.shape, hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()


def _function(x: types.FunctionType, seen: dict[int, tuple[int, Any]]) -> Hashable:
    held = tuple(_filled(cell) for cell in x.__closure__ or ())
    inside = [held, x.__defaults__, x.__kwdefaults__, _others(x), _signature(x), repr(inspect.get_annotations(x))]
    if neighbours.own(x.__globals__):
        inside.append({name: x.__globals__[name] for name in _names(x.__code__) if name in x.__globals__})
    return x.__module__, x.__qualname__, x.__code__, _key(inside, seen)


def _filled(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is filled later, if at all
        raise _Unknown from None


def _names(code: types.CodeType) -> Iterator[str]:
    """Every name that a function, or one inside it, may look up in its module."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _names(inner)


def _signature(x: Any) -> Any:
    """What a plug made of others declares besides its own text."""
    found = getattr(x, "__signature__", None)
    parameters = found.parameters.values() if isinstance(found, inspect.Signature) else ()
    return [(p.name, int(p.kind), p.default, repr(p.annotation)) for p in parameters]


def _class(x: type, seen: dict[int, tuple[int, Any]]) -> Hashable:
    # The class itself, whatever it does: a tree of another class is another tree.
    if x.__module__ == "builtins" or not _of_user(x):
        return x
    return x, _key([_others(x), x.__bases__, repr(inspect.get_annotations(x))], seen)


def _object(x: Any, seen: dict[int, tuple[int, Any]]) -> Hashable:
    if isinstance(x, types.ModuleType):
        if neighbours.own(vars(x)):
            raise _Unknown
        return types.ModuleType, x.__name__
    if isinstance(x, types.BuiltinFunctionType):
        if not isinstance(x.__self__, (types.ModuleType, type(None))):
            raise _Unknown
        return x.__module__, x.__qualname__
    if hasattr(type(x), "__wrapped__") or "__wrapped__" in getattr(x, "__dict__", {}):  # by jax.jit, by a cache
        return type(x), _key(x.__wrapped__, seen)
    slots = [name for kind in type(x).__mro__ for name in _listed(vars(kind).get("__slots__", ()))]
    if not hasattr(x, "__dict__") and not slots:
        raise _Unknown
    held = {name: getattr(x, name) for name in slots if hasattr(x, name) and name not in LEFT_OUT}
    return _key(type(x), seen), _key({**held, **_others(x)}, seen)


def _listed(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _others(x: Any) -> dict[str, Any]:
    """The attributes of an object but for those that say nothing of what it does."""
    return {name: value for name, value in getattr(x, "__dict__", {}).items() if name not in LEFT_OUT}


def _of_user(x: type) -> bool:
    module = sys.modules.get(x.__module__)
    return module is None or neighbours.own(vars(module))

"""What a function or an object does, as a key: two things of one key are traced to the same program.

Of the code of installed packages the name is enough. Of the user's own, in a file, a script or a notebook, everything
that it reads is part of the key: its text, what it closes over, the globals that it names and the attributes of its
objects. Where that can't be told, such as of a module of the user's, whose attributes may change, there is no key.
"""

import collections
import datetime
import dis
import enum
import functools
import hashlib
import inspect
import os
import pickle
import random
import sys
import time
import types
from collections.abc import Hashable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.sweeps import neighbours

PLAIN = {str, bytes, int, float, complex, bool, type(None), type(Ellipsis), type(NotImplemented), range, slice}
# What a class statement makes of a name, and what works by its name alone.
NAMED = (types.MemberDescriptorType, types.GetSetDescriptorType, types.WrapperDescriptorType)
FIELD: Any = type(vars(collections.namedtuple("_Pair", "x"))["x"])  # of a NamedTuple
WRAPPERS = (type(jnp.tanh), functools._lru_cache_wrapper)  # of a compiled function and of a cache
# Attributes that say nothing of what a thing does, or that are looked at on their own.
LEFT_OUT = {"__dict__", "__weakref__", "__doc__", "__module__", "__signature__", "__annotations__"}
LEFT_OUT |= {"__orig_bases__", "_abc_impl"}
# What these read, no text names; nor what comes from outside of the program.
BY_NAME = {"globals", "vars", "eval", "exec", "__import__", "import_module", "open", "environ", "getenv", "argv"}
BY_NAME |= {"load", "loads", "loadtxt", "read", "read_text", "read_bytes", "default_rng"}
MODULE = types.ModuleType
OUTSIDE = (os, random, time, datetime, np.random)
STATE = ("__reduce__", "__reduce_ex__", "__getstate__")  # say what an object holds, where it isn't its attributes
HEAP = 1 << 9  # of a class's flags: it was made by a class statement, or could have been


class _Unknown(Exception):
    """An object that may do one thing now and another later."""


def key_of(*things: Any) -> Hashable | None:
    """The key of some objects together, which it keeps alive; None where they can't be told."""
    try:
        found = tuple(_key(thing, {}) for thing in things), _settings()
        hash(found)
    except Exception:  # whatever an attribute or a `repr` of the user's raises
        return None
    return found


def _settings() -> Hashable:
    """Everything that jax was told that may change a program."""
    return tuple((name, repr(x)) for name, x in jax.config.values.items() if name != "jax_compilation_cache_dir")


def _key(x: Any, seen: dict[int, tuple[int, Any]]) -> Hashable:
    kind: Any = type(x)
    if kind in PLAIN:
        return kind, repr(x)  # 1, 1.0 and True are equal, and so are 0.0 and -0.0
    if isinstance(x, np.dtype):
        return x
    if isinstance(x, np.ufunc):
        if getattr(np, x.__name__, None) is not x:
            raise _Unknown
        return x
    if isinstance(x, NAMED):
        return kind, x.__name__, repr(getattr(x, "__objclass__", None))
    if kind is FIELD:
        return kind, repr(x.__reduce__())
    if isinstance(x, enum.Enum):
        return _key(kind, seen), x.name
    if id(x) in seen:
        return "again", seen[id(x)][0]
    seen[id(x)] = len(seen), x  # held, since another object could get the id of one that is gone
    if isinstance(x, (np.ndarray, np.generic, jax.Array)):
        return _array(x)
    if kind in (dict, types.MappingProxyType):
        return kind, tuple((_key(name, seen), _key(value, seen)) for name, value in x.items())
    if kind in (tuple, list) or (isinstance(x, tuple) and hasattr(kind, "_fields")):
        return _key(kind, seen), tuple(_key(value, seen) for value in x), _key(_others(x), seen)
    if kind in (set, frozenset):
        return kind, tuple(_key(value, seen) for value in sorted(x, key=repr))
    if kind is functools.partial:
        return kind, _key((x.func, x.args, x.keywords, vars(x)), seen)
    if kind is types.MethodType:
        return kind, _key((x.__func__, x.__self__), seen)
    if kind in (staticmethod, classmethod):
        return kind, _key(x.__func__, seen)
    if kind is property:
        return kind, _key((x.fget, x.fset), seen)
    if kind is types.FunctionType:
        return _function(x, seen)
    if isinstance(x, type):
        return _class(x, seen)
    return _object(x, seen)


def _array(x: Any) -> Hashable:
    if isinstance(x, jax.core.Tracer) or x.dtype == object or (isinstance(x, np.ndarray) and type(x) is not np.ndarray):
        raise _Unknown
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return str(jax.random.key_impl(x)), _array(jax.random.key_data(x))
    weak = isinstance(x, jax.Array), getattr(x, "weak_type", False)
    return *weak, str(x.dtype), x.shape, hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()


def _function(x: types.FunctionType, seen: dict[int, tuple[int, Any]]) -> Hashable:
    held = tuple(_filled(cell) for cell in x.__closure__ or ())
    inside = [held, x.__defaults__, x.__kwdefaults__, _others(x), _signature(x), repr(x.__annotations__)]
    if not _installed(x.__globals__):
        names = set(_names(x.__code__))
        found = {name: x.__globals__[name] for name in sorted(names) if name in x.__globals__}
        drawn = "random" in names and any(value is np for value in found.values())
        if names & BY_NAME or drawn or any(value in OUTSIDE for value in found.values() if isinstance(value, MODULE)):
            raise _Unknown
        inside.append(found)
    return x.__module__, x.__qualname__, x.__code__, _key(inside, seen)


def _filled(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is filled later, if at all
        raise _Unknown from None


def _names(code: types.CodeType) -> Iterator[str]:
    """Every name that a function of the user's, or one inside it, may look up in its module."""
    yield from code.co_names
    steps = list(dis.get_instructions(code))
    for i, step in enumerate(steps):
        if step.opname == "IMPORT_NAME":
            module = sys.modules.get(step.argval)
            if steps[i - 2].argval != 0 or module in OUTSIDE or module is None or not _installed(vars(module)):
                raise _Unknown  # the first of the two values before it is how many packages above it looks
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _names(inner)


def _signature(x: Any) -> Any:
    """What a plug made of others declares besides its own text."""
    found = getattr(x, "__signature__", None)
    parameters = found.parameters.values() if isinstance(found, inspect.Signature) else ()
    return [(p.name, int(p.kind), p.default, repr(p.annotation)) for p in parameters]


def _class(x: type, seen: dict[int, tuple[int, Any]]) -> tuple[Hashable, ...]:
    # The class itself, whatever it does: a tree of another class is another tree.
    module = sys.modules.get(x.__module__)
    made = x.__flags__ & HEAP and (x.__module__ in ("builtins", "types") or any(map(_of_user, vars(x).values())))
    if module is not None and _installed(vars(module)) and not made:
        return (x,)
    return x, _key([_others(x), x.__bases__], seen)


def _object(x: Any, seen: dict[int, tuple[int, Any]]) -> Hashable:
    if isinstance(x, types.ModuleType):
        if not _installed(vars(x)):
            raise _Unknown
        return types.ModuleType, x.__name__
    if isinstance(x, types.BuiltinFunctionType):
        if not isinstance(x.__self__, (types.ModuleType, type, type(None))) or x.__self__ in OUTSIDE:
            raise _Unknown
        return x.__module__, x.__qualname__, *(_class(x.__self__, seen) if isinstance(x.__self__, type) else ())
    if isinstance(x, WRAPPERS):
        put = {name: value for name, value in _others(x).items() if name not in vars(jnp.tanh)}
        return type(x), _key([getattr(x, "__wrapped__"), put], seen)  # noqa: B009  (no type says that it has one)
    if type(x).__module__ == "mujoco._structs":  # Brax's models
        return type(x), hashlib.sha256(pickle.dumps(x)).hexdigest()
    in_c = any(kind is not object and not kind.__flags__ & HEAP for kind in type(x).__mro__)
    if in_c or any(getattr(type(x), name) is not getattr(object, name) for name in STATE):
        raise _Unknown  # since it may hold more than its attributes
    every = [slot for kind in type(x).__mro__ for slot in vars(kind).values()]
    slots = [slot for slot in every if isinstance(slot, types.MemberDescriptorType)]
    if not hasattr(x, "__dict__") and not slots:
        raise _Unknown
    held = {slot.__name__: slot.__get__(x) for slot in slots if _has(slot, x)}
    return _key(type(x), seen), _key([held, _others(x), _signature(x)], seen)


def _has(slot: Any, x: Any) -> bool:
    try:
        slot.__get__(x)
    except AttributeError:  # nothing was put into it
        return False
    return True


def _of_user(x: Any) -> bool:
    """Whether an attribute of a class is a function of the user's, put there or brought along."""
    function = getattr(x, "__func__", getattr(x, "fget", x))
    if not isinstance(function, types.FunctionType):
        return False
    space = function.__globals__
    return not _installed(space) and not str(space.get("__name__", "")).startswith("namedtuple_")


def _others(x: Any) -> dict[str, Any]:
    """The attributes of an object but for those that say nothing of what it does."""
    return {name: value for name, value in getattr(x, "__dict__", {}).items() if name not in LEFT_OUT}


def _installed(space: dict[str, Any]) -> bool:
    """Whether a module, given by its namespace, is Python's own or an installed package's, which stay as they are."""
    file, name = space.get("__file__"), space.get("__name__")
    if isinstance(file, str):
        return neighbours.installed(file)
    loader = getattr(space.get("__spec__"), "origin", None)
    return name in sys.builtin_module_names or loader in ("built-in", "frozen")

"""Plugs as data: the hyperparameters that a function's signature declares, and names made near.

A hyperparameter is a keyword-only argument with a default. Where the default is a float, it is a
number that `vmap` may sweep; any other type (bool, int, str) is a static choice, fixed when the
program is compiled.
"""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from pgjax.types import RunningAdvantage, RunningEstimator

_RUNNING = (RunningAdvantage, RunningEstimator)


def name_of(plug: Any) -> str:
    """The name that a message or a table gives a plug."""
    if isinstance(plug, _RUNNING):
        plug = plug.apply
    while isinstance(plug, functools.partial):
        plug = plug.func
    return getattr(plug, "__name__", type(plug).__name__)


def hyperparameters(plug: Any) -> dict[str, Any]:
    """Name -> default of every hyperparameter of a plug, in the order of its signature."""
    if isinstance(plug, _RUNNING):
        plug = plug.apply
    found = {}
    for parameter in inspect.signature(plug).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        if parameter.default is inspect.Parameter.empty:
            raise TypeError(
                f"{name_of(plug)}: keyword-only argument {parameter.name!r} has no default; "
                "give it one, since the keyword-only arguments of a plug are its hyperparameters"
            )
        found[parameter.name] = parameter.default
    return found


def bind(plug: Any, **defaults: Any) -> Any:
    """The same plug with other defaults."""
    if not defaults:
        return plug
    known = hyperparameters(plug)
    for name in defaults:
        if name not in known:
            raise ValueError(unknown(f"{name_of(plug)} takes no hyperparameter", name, known))
        if isinstance(known[name], float) and isinstance(defaults[name], int):
            defaults[name] = float(defaults[name])  # its type says that it may be swept
    if isinstance(plug, _RUNNING):
        named = ("apply", "after")[: len(plug) - 1]
        return plug._replace(**{name: functools.partial(getattr(plug, name), **defaults) for name in named})
    return functools.partial(plug, **defaults)


def declare(function: Callable, *plugs: Any) -> Callable:
    """Give `function(..., **hypers)` the signature of its own arguments plus those of `plugs`."""
    own = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    names = {parameter.name for parameter in own}
    for plug in plugs:
        for name, default in hyperparameters(plug).items():
            if name in names:
                raise ValueError(f"{name_of(plug)}: hyperparameter {name!r} is taken by {function.__name__}; rename it")
            names.add(name)
            own.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default))
    function.__signature__ = inspect.Signature(own)
    return function


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """'<what> <name>', with the nearest known name, or all of them where none is near."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known) or '(none)'}"
    return f"{what} {name!r}; {hint}"

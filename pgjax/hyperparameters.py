"""A plug's signature as data: its hyperparameters, where each makes sense, and what the machinery does with it.

A hyperparameter is a keyword-only argument with a default. Where the default is a float, `vmap` may sweep the number;
any other type (bool, int, str) is a static choice, fixed when the program is compiled. Its annotation may say more:

    def loss(now, batch, *, clip_eps: Annotated[float, Range(0, math.inf)] = 0.2): ...

Nothing is read off a hyperparameter's name: a loss of one's own may call a number `tau`, `samples` or `stop_kl`, and
no range and no machinery of the package's plugs comes with it.
"""

import dataclasses
import functools
import inspect
import math
from typing import Annotated, Any, get_args

import jax.numpy as jnp
import numpy as np

from pgjax.declarations import Plug, Role, Trait, having, layers, traits_of
from pgjax.errors import unknown
from pgjax.types import Algorithm, Hypers, Running

LEAST, MOST = 2.0**-126, float(np.finfo(np.float32).max)  # of float32: a smaller number becomes 0, a larger one inf


@dataclasses.dataclass(frozen=True)
class Range:
    """Where a hyperparameter makes sense, both ends included; inf is an end where it turns something off."""

    low: float = -math.inf
    high: float = math.inf


Probability = Annotated[float, Range(0, 1)]
Positive = Annotated[float, Range(LEAST, MOST)]
NonNegative = Annotated[float, Range(0, MOST)]
Finite = Annotated[float, Range(-MOST, MOST)]
Bound = Annotated[float, Range(0, math.inf)]  # inf: no bound


def name_of(plug: Any) -> str:
    """The name that a message or a table gives a plug; an `apply` inside of a function has the function's."""
    if isinstance(plug, Running):
        plug = plug.apply
    while isinstance(plug, functools.partial):
        plug = plug.func
    name = getattr(plug, "__name__", type(plug).__name__)
    around = getattr(plug, "__qualname__", "").split(".<locals>.")
    return around[-2].rpartition(".")[2] if name == "apply" and len(around) > 1 else name


def hyperparameters(plug: Any) -> dict[str, Any]:
    """Name -> default of every hyperparameter of a plug, in the order of its signature."""
    return {parameter.name: parameter.default for parameter in _parameters(plug)}


def ranges(plug: Any) -> dict[str, Range]:
    """Name -> the range that a hyperparameter's annotation declares; those without one are left out."""
    declared = {parameter.name: declared_range(parameter.annotation) for parameter in _parameters(plug)}
    return {name: found for name, found in declared.items() if found}


def declared_range(annotation: Any) -> Range | None:
    """The Range in an `Annotated`, the last of several."""
    found = [x for x in _metadata(annotation) if isinstance(x, Range)]
    return found[-1] if found else None


def by_role(plug: Any) -> dict[Role, str]:
    """Role -> name of the hyperparameter that has it."""
    found: dict[Role, str] = {}
    for parameter in _parameters(plug):
        for role in (x for x in _metadata(parameter.annotation) if isinstance(x, Role)):
            if role in found and role is not Role.REFERENCE:
                raise ValueError(f"{name_of(plug)}: {found[role]} and {parameter.name} both have {role}; leave one out")
            found.setdefault(role, parameter.name)
    return found


def value_of(plug: Any, role: Role, otherwise: Any = None) -> Any:
    """The default of the hyperparameter that has the role, or `otherwise` where the plug has none."""
    name = by_role(plug).get(role)
    return otherwise if name is None else hyperparameters(plug)[name]


def _parameters(plug: Any) -> list[inspect.Parameter]:
    """The hyperparameters of a plug, annotations evaluated."""
    if isinstance(plug, Running):
        plug = plug.apply
    found = []
    for parameter in inspect.signature(plug).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        if parameter.default is inspect.Parameter.empty:
            raise TypeError(
                f"{name_of(plug)}: keyword-only argument {parameter.name!r} has no default; "
                "give it one, since the keyword-only arguments of a plug are its hyperparameters"
            )
        found.append(parameter.replace(annotation=_evaluated(plug, parameter)))
    return found


def _evaluated(plug: Any, parameter: inspect.Parameter) -> Any:
    """The annotation; of a module with `from __future__ import annotations` it is a text."""
    if not isinstance(parameter.annotation, str):
        return parameter.annotation
    scopes = [layer.__globals__ for layer in layers(plug) if hasattr(layer, "__globals__")]
    try:
        return eval(parameter.annotation, scopes[-1] if scopes else {})
    except Exception as error:
        raise TypeError(
            f"{name_of(plug)}: the annotation of {parameter.name!r} can't be read: {error}; import what it names "
            "where the plug is defined, not under TYPE_CHECKING"
        ) from error


def _metadata(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation)[1:] if hasattr(annotation, "__metadata__") else ()


def bind(plug: Any, **defaults: Any) -> Any:
    """The plug with other defaults: `bind(adam, learning_rate=1e-3)`."""
    if not defaults:
        return plug
    known = hyperparameters(plug)
    for name in defaults:
        if name not in known:
            raise ValueError(unknown(f"{name_of(plug)} takes no hyperparameter", name, known))
        if isinstance(known[name], float) and isinstance(defaults[name], int):
            defaults[name] = float(defaults[name])  # its type says that it may be swept
    if isinstance(plug, Running):
        after = functools.partial(plug.after, **defaults) if plug.after else None
        return plug._replace(apply=functools.partial(plug.apply, **defaults), after=after)
    return functools.partial(plug, **defaults)


def declare(function: Plug, *plugs: Any, by_step: bool = False) -> Plug:
    """Give `function(..., **hypers)` its own hyperparameters plus those of `plugs`, and what the plugs need.

    Example: `return declare(wrapped, loss)` at the end of a function that puts something around `loss`.

    Args:
      by_step: whether the function mixes no steps, so that it is `losses.by_step` where all of `plugs` are.
    """
    own = [
        parameter
        for parameter in inspect.signature(function).parameters.values()  # type: ignore[arg-type]  # of a function
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    names = {parameter.name for parameter in own}
    for plug in plugs:
        for parameter in _parameters(plug):
            if parameter.name in names:
                around = name_of(function) if name_of(function) != name_of(plug) else "the plug around it"
                raise ValueError(f"{name_of(plug)}: hyperparameter {parameter.name!r} is taken by {around}; rename it")
            names.add(parameter.name)
            own.append(parameter)
    function.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]  # of a function
    declared = [traits_of(plug) for plug in plugs]
    needed = frozenset().union(*declared) - {Trait.BY_STEP}
    kept = {Trait.BY_STEP} if by_step and all(Trait.BY_STEP in x for x in declared) else set()
    return having(function, *needed, *kept)


def plugs(algorithm: Algorithm) -> dict[str, Any]:
    """Part -> plug, of those that an algorithm has: an updater may be left out."""
    return {part: plug for part, plug in algorithm._asdict().items() if plug is not None or part != "updater"}


def default_hypers(algorithm: Algorithm, **parts: dict[str, Any]) -> Hypers:
    """Every sweepable hyperparameter (a float) at its default, or at the value given by `parts`.

    Example: `default_hypers(algorithm, optimizer={"learning_rate": 1e-3}, env={"gravity": 12.0})`.
    """
    values = {"env": dict(parts.pop("env", {}))}
    for part, plug in algorithm._asdict().items():
        known, given = {} if plug is None else hyperparameters(plug), parts.pop(part, {})
        for name in given:
            if name not in known:
                raise ValueError(unknown(f"{part} takes no hyperparameter", name, known))
            if not isinstance(known[name], float):
                raise ValueError(f"{part}.{name} is a static choice; bind it to the plug of the Algorithm instead")
        values[part] = {name: given.get(name, x) for name, x in known.items() if isinstance(x, float)}
    if parts:
        raise ValueError(f"no part {sorted(parts)[0]!r}; choose from {', '.join(Hypers._fields)}")
    return Hypers(**{k: {n: jnp.asarray(x, jnp.float32) for n, x in v.items()} for k, v in values.items()})


def within(full: str, number: float, value: Any, allowed: Range) -> None:
    """ValueError where a hyperparameter isn't in its range, or isn't the same number in float32.

    Args:
      full: its part and name, for the message.
      value: as it was written, for the message.
    """
    low, high = allowed.low, allowed.high
    single = full.partition(".")[0] in Algorithm._fields and isinstance(number, float)
    if not low <= number <= high:
        raise ValueError(f"{full} must {said(allowed, isinstance(number, int))}, got {value}")
    if single and number and (abs(number) < LEAST or MOST < abs(number) < math.inf):
        became = "0" if abs(number) < 1 else "inf" if number > 0 else "-inf"
        raise ValueError(f"{full}={value} becomes {became} in float32; give one between 1.2e-38 and 3.4e38")
    if full.startswith("config.") and isinstance(number, int) and abs(number) >= 2**31:
        raise ValueError(f"{full} must be {2**31 - 1} or less, got {value}")


def said(allowed: Range, whole: bool) -> str:
    """Where a value must lie, in words that follow 'must'; `whole`: of a whole number."""
    low, high = allowed.low, allowed.high
    least = "above 0" if low == LEAST else f"{low:g} or more"
    if high == MOST:
        return "be finite in float32" if low == -MOST else f"be {least} and finite in float32"
    if low == -math.inf:
        return f"be {high:g} or less"
    if high == math.inf and (low == LEAST or whole):
        return f"be {least}"
    return f"be above 0 and {high:g} or less" if low == LEAST else f"lie in [{low:g}, {high:g}]"

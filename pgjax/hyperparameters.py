"""Plugs as data: the hyperparameters that a function's signature declares, and names made near.

A hyperparameter is a keyword-only argument with a default. Where the default is a float, it is a
number that `vmap` may sweep; any other type (bool, int, str) is a static choice, fixed when the
program is compiled.
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from pgjax.errors import unknown
from pgjax.types import Algorithm, Hypers, RunningAdvantage, RunningEstimator

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


def default_hypers(algorithm: Algorithm, **parts: dict[str, Any]) -> Hypers:
    """Every sweepable hyperparameter (a float) at its default, or at the value given by `parts`.

    Example: `default_hypers(algorithm, optimizer={"learning_rate": 1e-3}, env={"gravity": 12.0})`.
    """
    values = {"env": dict(parts.pop("env", {}))}
    for part in ("advantage", "estimator", "optimizer"):
        known, given = hyperparameters(getattr(algorithm, part)), parts.pop(part, {})
        for name in given:
            if name not in known:
                raise ValueError(unknown(f"{part} takes no hyperparameter", name, known))
            if not isinstance(known[name], float):
                raise ValueError(f"{part}.{name} is a static choice; bind it to the plug of the Algorithm instead")
        values[part] = {name: given.get(name, x) for name, x in known.items() if isinstance(x, float)}
    if parts:
        raise ValueError(f"no part {sorted(parts)[0]!r}; choose from {', '.join(Hypers._fields)}")
    return Hypers(**{k: {n: jnp.asarray(x, jnp.float32) for n, x in v.items()} for k, v in values.items()})


LEAST, MOST = 2.0**-126, float(np.finfo(np.float32).max)  # of float32: what is smaller becomes 0, what is larger inf


# Where a hyperparameter of the package's own plugs makes sense, both ends included; beyond, training only looks like
# it. inf is an end where it turns something off.
RANGES = {
    "advantage.discount": (0, 1),
    "advantage.gae_lambda": (0, 1),
    "advantage.gain_rate": (0, MOST),
    "advantage.clip_rho": (0, math.inf),
    "advantage.clip_c": (0, math.inf),
    "advantage.constant": (-MOST, MOST),
    "advantage.v_trace_lambda": (0, 1),
    "config.epsilon": (0, 1),
    "config.temperature": (LEAST, MOST),
    "estimator.clip_eps": (0, math.inf),
    "estimator.value_clip": (0, math.inf),
    "estimator.kl_coef": (0, MOST),
    "estimator.value_coef": (0, MOST),
    "estimator.entropy_coef": (-MOST, MOST),
    "estimator.huber_delta": (LEAST, math.inf),
    "estimator.stop_kl": (0, math.inf),
    "estimator.target_kl": (0, MOST),
    "estimator.max_kl": (LEAST, MOST),
    "estimator.damping": (0, MOST),
    "estimator.backtrack": (0, 1),
    "estimator.cg_steps": (1, math.inf),
    "estimator.line_search": (0, math.inf),
    "estimator.tau": (0, 1),
    "estimator.initial_alpha": (1e-9, MOST),
    "estimator.target_entropy_box": (-MOST, MOST),
    "estimator.target_entropy_finite": (-MOST, MOST),
    "estimator.epsilon_steps": (1, MOST),
    "estimator.epsilon_start": (0, 1),
    "estimator.epsilon_end": (0, 1),
    "advantage.reference_penalty": (0, MOST),
    "estimator.reference_coef": (0, MOST),
    "optimizer.warmup_steps": (0, MOST),
    "optimizer.anneal_steps": (1, math.inf),
    "optimizer.learning_rate": (LEAST, MOST),
    "optimizer.max_grad_norm": (LEAST, math.inf),
    "optimizer.eps": (0, MOST),
}


def within(full: str, number: float, value: Any) -> None:
    """ValueError where a hyperparameter isn't in its range, or isn't the same thing in float32."""
    low, high = RANGES.get(full, (-math.inf, math.inf))
    single = full.partition(".")[0] in ("advantage", "estimator", "optimizer") and isinstance(number, float)
    if not low <= number <= high:
        if high == MOST:
            least = {LEAST: "above 0 and ", -MOST: ""}.get(low, f"{low:g} or more and ")
            raise ValueError(f"{full} must be {least}finite in float32, got {value}")
        least = "above 0" if low == LEAST else f"in [{low:g}, {high:g}]"
        raise ValueError(f"{full} must {'be' if low == LEAST else 'lie'} {least}, got {value}")
    if single and number and (abs(number) < LEAST or MOST < abs(number) < math.inf):
        became = "0" if abs(number) < 1 else "inf" if number > 0 else "-inf"
        raise ValueError(f"{full}={value} becomes {became} in float32; give one between 1.2e-38 and 3.4e38")
    if full.startswith("config.") and isinstance(number, int) and abs(number) >= 2**31:
        raise ValueError(f"{full} must be {2**31 - 1} or less, got {value}")

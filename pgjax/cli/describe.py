"""Tells what an object of the user's is, a plug, a policy or an environment, and spells its options."""

import inspect
from typing import Any

import optax

from pgjax.algorithms.roster import Entry
from pgjax.declarations import Trait, layers, traits_of
from pgjax.errors import named
from pgjax.hyperparameters import hyperparameters, ranges, said
from pgjax.plugs import PLACES, check_plug
from pgjax.types import Algorithm, Env, Running

# What each kind is called with; what takes nothing is called once.
KINDS = {
    **{place: tuple(takes.split(", ")) for place, (takes, _) in PLACES.items() if takes},
    "policy": ("env", "config"),
}


def kind_of(thing: Any, spec: str) -> str:
    """A place of `PLACES`, "policy", "environment" or "algorithm", by the positional arguments that the object takes.

    Where two kinds take as many, the names of the arguments decide. The first names alone, in any order, are enough, so
    that what stands in the wrong place by mistake can be told; an updater is known by its names alone.

    Raises:
      ValueError: for what is none of these.
    """
    if isinstance(thing, (Algorithm, Entry)):
        return "algorithm"
    if isinstance(thing, (Env, type)) or hasattr(thing, "step_env"):
        return "environment"
    function = thing.apply if isinstance(thing, Running) else thing
    if not callable(function):
        raise ValueError(f"{spec} is of type {type(thing).__name__}, and no algorithm, plug, policy or environment")
    own = [p.name for p in inspect.signature(function).parameters.values() if p.kind <= p.VAR_POSITIONAL]
    own = own[isinstance(thing, Running) + (Trait.PLAYS in traits_of(thing)) :]  # without what only some are given
    if not own:
        with named(spec):
            return "optimizer" if isinstance(thing(), optax.GradientTransformation) else "environment"
    for kind, takes in KINDS.items():
        if set(own[: len(takes)]) == set(takes):
            return kind
    alike = {kind: sum(map(str.__eq__, own, takes)) for kind, takes in KINDS.items() if len(takes) == len(own)}
    best = [kind for kind, count in alike.items() if count == max(alike.values()) and (count or kind != "updater")]
    if len(best) != 1:
        several = " or ".join(f"({', '.join(KINDS[kind])}) of {kind}" for kind in best or KINDS)
        raise ValueError(f"{spec} takes ({', '.join(own)}): name its arguments {several}")
    return best[0]


def summary(thing: Any) -> str:
    """The first line of the docstring of the function inside, or nothing."""
    inner = thing if isinstance(thing, type) else list(layers(thing))[-1] if callable(thing) else None
    return (inspect.getdoc(inner) or "").partition("\n")[0] if inspect.isroutine(inner) or inner is thing else ""


def options(kind: str, plug: Any) -> list[str]:
    """A line for each hyperparameter of a plug: its default, and where its values must lie."""
    check_plug(kind, plug)
    allowed = ranges(plug)
    lines = []
    for name, value in hyperparameters(plug).items():
        where = f", must {said(allowed[name], isinstance(value, int))}" if name in allowed else ""
        lines.append(f"{name}={spelled(value)}{where}")
    return lines or ["no options"]


def spelled(value: Any) -> str:
    """A value as `--set` takes it."""
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)

"""Checks that each plug of an algorithm takes what its place gives it; one line says the call that mends it."""

import inspect
import math
from typing import Any

from pgjax.declarations import Trait, traits_of
from pgjax.errors import named, told
from pgjax.hyperparameters import hyperparameters, name_of, plugs
from pgjax.types import Algorithm, Env, Policy, Running

# Place -> the positional arguments that it gives, and what to do with something else.
PLACES = {
    "loss": ("now, batch", "write it as def loss(now, batch, *, beta: float = 1.0)"),
    "advantage": ("trajectory, now", "write it as def advantage(trajectory, now, *, discount: float = 0.99)"),
    "estimator": ("key, policy, params, batch", "lift a loss by estimators.surrogate(losses.actor_critic(loss))"),
    "optimizer": ("", "use optimizers.adam, or a function def optimizer(*, learning_rate: float = 1e-3)"),
    "updater": ("algorithm, config, by_column", "leave it out for updates.descent"),
}
# The same of a plug that remembers.
REMEMBERS = {
    "loss": "a Running is (init, apply, after), with def apply(state, now, batch, *, beta: float = 1.0)",
    "advantage": "a Running is (init, apply, after), with def apply(state, trajectory, now, *, discount: float = 0.99)",
    "estimator": PLACES["estimator"][1],
}


def check_plugs(algorithm: Algorithm) -> None:
    """TypeError where a plug can't be what its place asks for."""
    for place, plug in plugs(algorithm).items():
        check_plug(place, plug)


def check_plug(place: str, plug: Any) -> None:
    """TypeError where a plug can't be called with the positional arguments of its place: see `PLACES`."""
    given, fix = PLACES[place]
    remembers = isinstance(plug, Running) and place in ("loss", "advantage", "estimator")
    given = f"play, {given}" if place == "advantage" and Trait.PLAYS in traits_of(plug) else given
    takes, function = (f"state, {given}", plug.apply) if remembers else (given, plug)
    fix = REMEMBERS[place] if remembers else fix
    if isinstance(function, type) or not callable(function):
        what = repr(plug) if isinstance(plug, (str, type)) else told(plug)
        wanted = f"({takes}) and hyperparameters" if takes else "keyword-only hyperparameters"
        raise TypeError(f"{place} must be a function of {wanted}, got {what}; {fix}")
    parameters = list(inspect.signature(function).parameters.values())
    own = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    most = math.inf if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(own)
    needed = sum(p.default is p.empty for p in own)
    count = len(takes.split(", ")) if takes else 0
    names = ", ".join(p.name for p in own)
    # A loss takes as many arguments as an advantage; in each other's place they are known by the names of these.
    before = takes.removesuffix(PLACES[place][0])
    another = names and names in [before + x for kind, (x, _) in PLACES.items() if kind != place]
    if another or _elsewhere([p.name for p in own], takes) or not needed <= count <= most:
        raise TypeError(f"{place} {name_of(plug)!r} takes ({names}), its place gives ({takes}); {fix}")
    if place != "optimizer" and (extra := [p.name for p in own[count:]]):
        raise TypeError(
            f"{place} {name_of(plug)!r}: {extra[0]!r} stands before the *; hyperparameters are keyword-only, so write "
            f"({takes}, *, {extra[0]}=...)"
        )
    options = hyperparameters(plug)
    if remembers:
        _check_remembering(f"{place} {name_of(plug)!r}", plug, options)
    if place == "optimizer" and not (hasattr(made := plug(), "init") and hasattr(made, "update")):
        raise TypeError(
            f"optimizer {name_of(plug)!r} returned {told(made)}, expected an optax.GradientTransformation; {fix}"
        )


def _elsewhere(own: list[str], takes: str) -> bool:
    """Whether an argument has the name of one that its place gives elsewhere, as in (batch, now)."""
    wanted = takes.split(", ")
    return any(name in wanted and wanted.index(name) != i for i, name in enumerate(own))


def _check_remembering(what: str, plug: Running, options: dict[str, Any]) -> None:
    """TypeError where `init` or `after` of a plug that remembers can't be called as it will be."""
    for name, takes, given in (("init", "key, policy, params, batch", {}), ("after", "state, metrics", options)):
        if (function := getattr(plug, name)) is None:
            continue
        try:
            signature = inspect.signature(function)
            own = [p.name for p in signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
            if _elsewhere(own, takes):
                raise TypeError(f"the order of ({', '.join(own)})")
            signature.bind(*takes.split(", "), **given)
        except TypeError as error:
            call = f"{takes}, **hypers), which has all that apply has" if given else f"{takes})"
            raise TypeError(f"{what}: its {name} can't be called: {error}; write it as def {name}({call}") from None


def made_policy(make: Any, env: Env, config: Any) -> Policy:
    """What the user's `policy` makes; TypeError, with the call that mends it, where it is no function to a Policy."""
    fix = "give lambda env, config: policies.from_nnx(lambda rngs: Module(..., rngs=rngs))"
    if isinstance(make, Policy):
        raise TypeError(
            "policy must be a function (env, config) -> Policy, got a Policy; use lambda env, config: policy"
        )
    if isinstance(make, type) or not callable(make):
        raise TypeError(f"policy must be a function (env, config) -> Policy, got {make!r}; {fix}")
    try:
        inspect.signature(make).bind(env, config)
    except TypeError as error:
        line = f"policy {name_of(make)!r} must be a function of (env, config): {error}; {fix}"
        raise TypeError(line) from None
    with named(f"policy {name_of(make)!r}"):
        made = make(env, config)
    return checked_policy(made, f"policy {name_of(make)!r} must return")


def checked_policy(found: Any, where: str = "policy must be") -> Policy:
    """The Policy itself; TypeError for anything else."""
    if not isinstance(found, Policy):
        raise TypeError(
            f"{where} a pgjax Policy, got {type(found).__name__}; make one of a module by "
            "policies.from_nnx(lambda rngs: Module(..., rngs=rngs))"
        )
    if found.variables and found.variables.made:
        bind, act, evaluate = found.variables.made
        if found.variables.bind is bind and (found.act is not act or found.evaluate is not evaluate):
            raise ValueError(
                "the policy has variables, with which learners make it anew by its `variables.bind`, without the "
                "wrapper around it; wrap what bind returns too: variables._replace(bind=...)"
            )
    return found

"""Plugs that remember: any plug in the form of one, and what is put around plugs whether they remember or not."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pgjax.declarations import RESERVED, having, traits_of
from pgjax.errors import told
from pgjax.hyperparameters import declare, hyperparameters, name_of
from pgjax.types import Array, PyTree, Running


def running(plug: Any) -> Running:
    """The plug as one that remembers; a plain one remembers ()."""
    if isinstance(plug, Running):
        return plug
    return Running(lambda *_: (), lambda state, *arguments, **hypers: (state, plug(*arguments, **hypers)))


def around(apply: Callable[..., tuple[tuple[Any, ...], Any]], *plugs: Any, by_step: bool = False) -> Any:
    """A plug made of others, with their hyperparameters and needs: it remembers if one of them does.

    Example: `return around(apply, loss)` at the end of a function that puts something around `loss`.

    Args:
      apply: (states, what the plug takes, **hypers) -> (states, what it returns); `states` has one for each of `plugs`,
        for `running(plug).apply`.
      by_step: as `declare` has it.
    """
    whole, parts = declare(apply, *plugs, by_step=by_step), [running(plug) for plug in plugs]
    if any(isinstance(plug, Running) for plug in plugs):
        names = [hyperparameters(plug) for plug in plugs]

        def after(states: tuple[Any, ...], metrics: dict[str, Array], **hypers: Any) -> tuple[Any, ...]:
            owned = [{name: hypers[name] for name in own if name in hypers} for own in names]
            return tuple(settled(p, x, metrics, **h) for p, x, h in zip(parts, states, owned, strict=True))

        def metrics(states: tuple[Any, ...]) -> dict[str, Array]:
            return {
                name: x for part, state in zip(parts, states, strict=True) for name, x in shown(part, state).items()
            }

        return Running(lambda *arguments: tuple(part.init(*arguments) for part in parts), whole, after, metrics)

    @functools.wraps(whole)
    def plain(*arguments: Any, **hypers: Any) -> Any:
        return whole(((),) * len(plugs), *arguments, **hypers)[1]

    signature = inspect.signature(whole)
    plain.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])  # type: ignore[attr-defined]
    return having(plain, *traits_of(whole))


def settled(plug: Running, state: PyTree, metrics: dict[str, Array], **hypers: Any) -> PyTree:
    """The state after an update, by the mean metrics of its last epoch."""
    if plug.after is None:
        return state
    following = plug.after(state, metrics, **hypers)
    check_state(name_of(plug), state, following, "after")
    return following


def shown(plug: Running, state: PyTree) -> dict[str, Array]:
    """The metrics of a state, checked at trace time."""
    if plug.metrics is None:
        return {}
    found = plug.metrics(state)
    if not isinstance(found, dict) or any(jnp.shape(x) != () for x in found.values()):
        raise TypeError(f"{name_of(plug)}: its metrics must be a dict of scalars by name, got {told(found)}")
    if names := set(found) & set(RESERVED):
        raise ValueError(f"{name_of(plug)}: metric {min(names)!r} is a name of the pipeline's own; rename it")
    return found


def check_state(name: str, before: PyTree, after: PyTree, by: str = "apply") -> None:
    """ValueError where a state has got another structure, shape or type; the message has its name, and by whom."""
    parts = [dict(jax.tree_util.tree_leaves_with_path(x)) for x in (before, after)]
    for path in {**parts[0], **parts[1]}:
        was, now = (
            f"{jnp.result_type(part[path])}{list(jnp.shape(part[path]))}" if path in part else "nothing"
            for part in parts
        )
        if was != now:
            where = "".join(f" at {jax.tree_util.keystr(path, simple=True, separator='.')!r}" for _ in path[:1])
            raise ValueError(
                f"{name}: its state{where} was {was} and is {now} after `{by}`; return one like that of `init`"
            )


def check_plain(plug: Any, where: str) -> None:
    """ValueError where a plug remembers and what is put around it can't."""
    if isinstance(plug, Running):
        raise ValueError(f"{where} takes no plug that remembers, and {name_of(plug)} does; use estimators.surrogate")

"""What the user gave as an algorithm, plugs and a policy in; a row and a maker of policies out, or one clear line."""

import inspect
from collections.abc import Callable
from typing import Any

from pgjax import policies
from pgjax.algorithms import replacement, roster
from pgjax.config import Config
from pgjax.errors import named, told, unknown
from pgjax.hyperparameters import name_of
from pgjax.plugs import checked_policy
from pgjax.sweeps.user_code import PLUGS
from pgjax.types import Algorithm, Env, Policy


def row(algorithm: Any, policy: Any, plugs: dict[str, Any]) -> roster.Entry:
    """The row of the roster that was asked for, with the user's plugs.

    Args:
      policy: what was given as one, which some rows take none of.

    Raises:
      TypeError: for something else than an algorithm, for an argument that is none, and for a plug in a wrong place.
      ValueError: for a name that is unknown, and for plugs that don't go together.
    """
    for name in plugs:
        if name not in PLUGS:
            raise TypeError(
                f"{unknown('no argument', name, PLUGS)}; hyperparameters go into settings={{{name!r}: ...}}"
            )
    found = roster.entry(algorithm) if isinstance(algorithm, str) else algorithm
    if isinstance(found, Algorithm):
        found = roster.Entry(found)
    if not isinstance(found, roster.Entry):
        shown = told(algorithm) if isinstance(algorithm, tuple) else repr(algorithm)
        raise TypeError(
            f"algorithm must be a name, an Algorithm or an Entry, got {shown}; give "
            "Algorithm(advantage, estimator, optimizer)"
        )
    if policy is not None and found.own_policy:
        named = repr(algorithm) if isinstance(algorithm, str) else "this algorithm"
        raise ValueError(f"policy: {named} makes its own networks; leave policy out")
    return replacement.with_plugs(found, **plugs)


def policy_maker(policy: Any) -> Callable[[Env, Config], Policy]:
    """The user's function, whose errors are one line; of None, the one that makes the network that config names.

    Raises:
      TypeError: for what can't be called with (env, config).
    """
    if policy is None:
        return policies.make
    if isinstance(policy, Policy):
        raise TypeError(
            "policy must be a function (env, config) -> Policy, got a Policy; use lambda env, config: policy"
        )
    fix = "give lambda env, config: policies.from_nnx(lambda rngs: Module(..., rngs=rngs))"
    if isinstance(policy, type) or not callable(policy):
        raise TypeError(f"policy must be a function (env, config) -> Policy, got {policy!r}; {fix}")
    name = name_of(policy)
    try:
        inspect.signature(policy).bind(None, None)
    except ValueError:  # of a function written in C, nothing is known
        pass
    except TypeError as error:
        raise TypeError(f"policy {name!r} must be a function of (env, config): {error}; {fix}") from None

    def make(env: Env, config: Config) -> Policy:
        with named(f"policy {name!r}"):
            made = policy(env, config)
        return checked_policy(made, f"policy {name!r} must return")

    return make

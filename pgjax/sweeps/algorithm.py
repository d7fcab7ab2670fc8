"""What the user gave as an algorithm and plugs in; a row of the roster out, or one clear line."""

from typing import Any

from pgjax.algorithms import replacement, roster
from pgjax.errors import told, unknown
from pgjax.sweeps.user_code import PLUGS
from pgjax.types import Algorithm


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

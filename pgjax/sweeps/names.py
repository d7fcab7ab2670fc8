"""Settings as the user gave them in; full names `part.name` and typed values out.

`known` is part -> name -> default of everything that can be set.
"""

import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np

from pgjax import errors
from pgjax.envs.parameters import Static
from pgjax.hyperparameters import Range
from pgjax.sweeps import search
from pgjax.sweeps.values import bounded, convert, distinct

Known = dict[str, dict[str, Any]]
Allowed = Callable[[str], Range | None]


def resolve(name: str, known: Known) -> str:
    """The full name `part.name` of what may have been given by its name alone."""
    owner, dot, bare = name.partition(".")
    if dot:
        if owner not in known:
            raise ValueError(errors.unknown("no part", owner, known))
        if bare not in known[owner]:
            raise ValueError(errors.unknown(f"{owner} takes no hyperparameter", bare, known[owner]))
        return name
    owners = [part for part in known if name in known[part]]
    if not owners:
        raise ValueError(errors.unknown("no hyperparameter", name, [n for names in known.values() for n in names]))
    if len(owners) > 1:
        raise ValueError(f"hyperparameter {name!r} is ambiguous; say {' or '.join(f'{p}.{name}' for p in owners)}")
    return f"{owners[0]}.{name}"


def unique(full: str, known: Known) -> bool:
    """Whether the bare name says which part is meant."""
    return sum(full.partition(".")[2] in names for names in known.values()) == 1


def swept(full: str, known: Known) -> bool:
    """Whether lanes of one program may differ in it: a float that is no shape."""
    owner, _, name = full.partition(".")
    options = known[owner]
    built = isinstance(options, Static) and name in options.built
    return owner != "config" and not built and isinstance(default(full, known), float)


def part(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """Those of one part, by their bare names."""
    return {full.partition(".")[2]: value for full, value in values.items() if full.startswith(f"{name}.")}


def default(full: str, known: Known) -> Any:
    """The default of a hyperparameter by its full name."""
    owner, _, name = full.partition(".")
    return known[owner][name]


def given(settings: dict[str, Any], known: Known) -> dict[str, Any]:
    """The same by full name."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        full = resolve(str(name), known)
        if full in found:
            raise ValueError(f"{full} was given twice")
        found[full] = value
    return found


class Given(NamedTuple):
    """Settings by full name."""

    fixed: dict[str, Any]  # the same in every setting
    axes: dict[str, list[Any]]  # of a grid
    points: list[dict[str, Any]] | None  # of a list of settings, without what is fixed

    @property
    def listed(self) -> bool:
        return self.points is not None

    @property
    def size(self) -> int:
        return math.prod(map(len, self.axes.values())) if self.points is None else len(self.points)

    def table(self) -> list[dict[str, Any]]:
        """Each setting, without what is fixed."""
        return search.grid(self.axes) if self.points is None else self.points


def settings(asked: Any, known: Known, allowed: Allowed, varied: Collection[str] = ()) -> Given:
    """The settings, checked and in the types of their defaults.

    Args:
      asked: a dict of name -> value or list of values, or a list of settings; None is {}.
      allowed: full name -> where its values must lie, as `values.convert` takes it.
      varied: full names that belong to each point of a list even where all points agree in them.
    """
    listed = isinstance(asked, list)
    if not isinstance(asked or {}, dict) and not (listed and all(isinstance(x, dict) for x in asked)):
        raise TypeError(f"settings must be a dict of name -> value or list of values, or a list; got {asked!r}")
    for one in asked if listed else [asked or {}]:
        if ranges := [name for name, x in one.items() if isinstance(x, search.Range)]:
            raise ValueError(f"{ranges[0]} is a Range; draw settings from it by search.sample(settings, samples)")
    if not listed:
        axes, fixed = _axes(given(asked or {}, known), known, allowed)
        return Given(fixed, axes, None)
    table = [
        {full: convert(full, x, default(full, known), allowed(full)) for full, x in given(one, known).items()}
        for one in asked
    ]
    if any(set(one) != set(table[0]) for one in table):
        raise ValueError(f"settings: a list of settings must give the same names in each, got {asked[0]!r} ...")
    if len({one.get("config.eval_episodes") for one in table}) > 1:
        raise ValueError("config.eval_episodes must be one number, the same for every setting")
    same = {full: x for full, x in table[0].items() if all(one[full] == x for one in table)}
    fixed = {full: x for full, x in same.items() if full not in varied}
    return Given(fixed, {}, [{full: x for full, x in one.items() if full not in fixed} for one in table])


def _axes(given: dict[str, Any], known: Known, allowed: Allowed) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Full name -> values of what was given as a list, and full name -> value of the rest."""
    axes: dict[str, list[Any]] = {}
    fixed: dict[str, Any] = {}
    for full, value in given.items():
        usual = default(full, known)
        several = isinstance(value, (list, range, np.ndarray)) or (
            isinstance(value, tuple) and not isinstance(usual, tuple)
        )
        if several:
            bounded(f"{full} of {len(value):,} values", len(value))
        values = [convert(full, x, usual, allowed(full)) for x in (value if several else [value])]
        if not values:
            raise ValueError(f"{full} was given no value")
        if several and full == "config.eval_episodes":
            raise ValueError("config.eval_episodes must be one number, the same for every setting")
        distinct(full, values, swept(full, known))
        if several:
            axes[full] = values
        else:
            fixed[full] = values[0]
    return axes, fixed

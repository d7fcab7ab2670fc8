"""Names and values of settings in, as the user gave them; full names `part.name` and typed values out.

`known` is part -> name -> default of everything that can be set.
"""

from typing import Any

import numpy as np

from pgjax import errors
from pgjax.envs.parameters import Static
from pgjax.sweeps.values import bounded, convert, distinct

Known = dict[str, dict[str, Any]]


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
    built = isinstance(known[owner], Static) and name in known[owner].built
    return owner != "config" and not built and isinstance(default(full, known), float)


def part(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """Those of one part, by their bare names."""
    return {full.partition(".")[2]: value for full, value in values.items() if full.startswith(f"{name}.")}


def default(full: str, known: Known) -> Any:
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


def axes(given: dict[str, Any], known: Known, ranged: bool = True) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Full name -> values of what was given as a list, and full name -> value of the rest."""
    axes, fixed = {}, {}
    for full, value in given.items():
        usual = default(full, known)
        several = isinstance(value, (list, range, np.ndarray)) or (
            isinstance(value, tuple) and not isinstance(usual, tuple)
        )
        if several:
            bounded(f"{full} of {len(value):,} values", len(value))
        values = [convert(full, x, usual, ranged) for x in (value if several else [value])]
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

"""A row of the roster and plugs of the user's in; the row with these plugs in place of its own out."""

import dataclasses
from typing import Any

from pgjax.advantages import ADVANTAGES
from pgjax.algorithms.roster import Entry
from pgjax.errors import unknown
from pgjax.hyperparameters import bind, hyperparameters, name_of
from pgjax.losses import LOSSES, sequences
from pgjax.optimizers import OPTIMIZERS
from pgjax.plugs import check_plug
from pgjax.types import LossFn

# Place -> the plugs that have names; an estimator is made of a loss, so it has none.
NAMED: dict[str, dict[str, Any]] = {
    "advantage": ADVANTAGES,
    "loss": LOSSES | sequences.LOSSES,
    "optimizer": OPTIMIZERS,
}


def by_name(place: str, plug: Any) -> Any:
    """The plug of this name, if it is a name of `NAMED`; anything else as it is."""
    if not isinstance(plug, str) or place not in NAMED:
        return plug
    if plug not in NAMED[place]:
        raise ValueError(unknown(f"no {place}", plug, NAMED[place]))
    return NAMED[place][plug]


def with_plugs(row: Entry, **plugs: Any) -> Entry:
    """The row with other plugs, each an object or a name that `pgjax list` shows; None leaves the row's own.

    A loss goes in place of the policy loss: the critic's loss and the entropy bonus stay, and hyperparameters that the
    loss doesn't bring keep the values of the row. Any other plug brings its own defaults.
    """
    given = {place: by_name(place, plug) for place, plug in plugs.items() if plug is not None}
    for place, plug in given.items():
        check_plug(place, plug)
    if "loss" not in given:
        return dataclasses.replace(row, algorithm=row.algorithm._replace(**given))
    if "estimator" in given:
        raise ValueError(
            "give loss or estimator, not both: an estimator has its loss inside, as estimators.surrogate(loss) has"
        )
    row = _with_loss(row, given.pop("loss"))
    return with_plugs(row, **given)


def _with_loss(row: Entry, loss: LossFn) -> Entry:
    if row.lift is None:
        raise ValueError(f"loss: {name_of(row.algorithm.estimator)} has losses of its own; leave {name_of(loss)!r} out")
    estimator = row.lift(loss)
    own, new = hyperparameters(row.algorithm.estimator), hyperparameters(estimator)
    # The loss brings its own hyperparameters; the others keep the values of the row.
    kept = {name: own[name] for name in new if name in own and name not in hyperparameters(loss)}
    return dataclasses.replace(row, algorithm=row.algorithm._replace(estimator=bind(estimator, **kept)))

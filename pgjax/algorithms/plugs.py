"""The plugs of an algorithm by name."""

from typing import Any

from pgjax.advantages import ADVANTAGES
from pgjax.errors import unknown
from pgjax.losses import LOSSES, sequences
from pgjax.optimizers import OPTIMIZERS

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

"""Algorithms: advantage, estimator and optimizer joined to a learner; the roster has them by name."""

from pgjax.algorithms.phases import auxiliary
from pgjax.algorithms.recent import recent
from pgjax.algorithms.replacement import with_plugs
from pgjax.algorithms.roster import ROSTER, entry

__all__ = ["ROSTER", "auxiliary", "entry", "recent", "with_plugs"]

"""Algorithms: advantage, estimator and optimizer joined to a learner; the roster has them by name."""

from pgjax.algorithms.replacement import with_plugs
from pgjax.algorithms.roster import ROSTER, entry

__all__ = ["ROSTER", "entry", "with_plugs"]

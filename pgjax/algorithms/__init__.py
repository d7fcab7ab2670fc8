"""Algorithms: advantage, estimator and optimizer joined to a learner; the roster has them by name."""

from pgjax.algorithms.phases import auxiliary
from pgjax.algorithms.roster import ROSTER, entry, with_loss

__all__ = ["ROSTER", "auxiliary", "entry", "with_loss"]

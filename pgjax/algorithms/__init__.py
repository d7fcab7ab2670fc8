"""Algorithms: advantage, estimator and optimizer joined to a learner; the roster has them by name."""

from pgjax.algorithms.roster import ROSTER, entry, with_loss

__all__ = ["ROSTER", "entry", "with_loss"]

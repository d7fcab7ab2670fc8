"""Conformance checks: does a plug, an environment, a policy or a learner keep the rules, and is it unbiased?"""

from pgjax.testing.ascends import check_ascends
from pgjax.testing.learners import check_learner
from pgjax.testing.plugs import check_advantage, check_estimator, check_loss
from pgjax.testing.unbiased import UndecidedError, check_unbiased
from pgjax.testing.worlds import check_env, check_policy

__all__ = [
    "UndecidedError",
    "check_advantage",
    "check_ascends",
    "check_env",
    "check_estimator",
    "check_learner",
    "check_loss",
    "check_policy",
    "check_unbiased",
]

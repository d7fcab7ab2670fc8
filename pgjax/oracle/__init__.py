"""The oracle: exact values, gradients and moments of estimators on environments that can be enumerated."""

from pgjax.oracle.enumeration import Projected, covariance, moments, project, trajectories
from pgjax.oracle.mdp import (
    MDP,
    Average,
    Values,
    average_reward,
    average_reward_gradient,
    continuing,
    from_env,
    gradient,
    probabilities,
    scores,
    values,
)
from pgjax.oracle.token_worlds import observing, tabulate

__all__ = [
    "Average",
    "MDP",
    "Projected",
    "Values",
    "average_reward",
    "average_reward_gradient",
    "continuing",
    "covariance",
    "from_env",
    "gradient",
    "moments",
    "observing",
    "probabilities",
    "project",
    "scores",
    "tabulate",
    "trajectories",
    "values",
]

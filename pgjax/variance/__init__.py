"""The estimator laboratory measures the bias and variance of estimators of the policy gradient.

    from pgjax import variance
    report = variance.compare(["full", "to_go", "gae"], env, policy, params)

compares rows of the grid by name; `variance.ScoreFunction(...)` is any other row, `variance.Plugs(advantage,
estimator)` any estimator that trains, and `variance.Sampler(gradient)` any `gradient(key, params)`.
"""

from pgjax.variance.compare import compare, prepare
from pgjax.variance.estimators.custom import Plugs, Sampler
from pgjax.variance.estimators.pathwise import pathwise
from pgjax.variance.estimators.score_functions import ESTIMATORS, ScoreFunction, product, statement
from pgjax.variance.findings.report import Report

__all__ = [
    "ESTIMATORS",
    "Plugs",
    "Report",
    "Sampler",
    "ScoreFunction",
    "compare",
    "pathwise",
    "prepare",
    "product",
    "statement",
]

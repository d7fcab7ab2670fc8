"""Scores of runs in; aggregates, their intervals, comparisons and ranks out. NumPy, float64.

`S` seeds, `M` tasks, `H` settings; larger scores are better. NaN is a run without a score: a lane that failed
or was stopped. A statistic of one sample is NaN where a score of the sample is, so that the caller must leave
such runs out, and say so. Only `naniqm`, `ranking` and `seeds_needed`, which hold settings side by side on the
same seeds, leave out what is missing themselves, each from its own setting alone.

An interval says where the statistic of all seeds there might be lies, and holds it as often as its level says; how
often for how many seeds is measured in benchmarks/results/coverage.md. One seed says nothing about other seeds: every
interval is then NaN. Where all scores are equal an interval has no width, which is right only if all others equal
them too.

Agarwal et al. 2021: Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS.
"""

from pgjax.statistics.comparisons import performance_profile, probability_of_improvement, ranking
from pgjax.statistics.intervals import bootstrap, difference, iqm, naniqm, optimality_gap, stratified
from pgjax.statistics.power import SeedsNeeded, seeds_needed

__all__ = [
    "SeedsNeeded",
    "bootstrap",
    "difference",
    "iqm",
    "naniqm",
    "optimality_gap",
    "performance_profile",
    "probability_of_improvement",
    "ranking",
    "seeds_needed",
    "stratified",
]

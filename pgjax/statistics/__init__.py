"""Aggregates of the scores of runs, their intervals, comparisons and ranks. NumPy, float64.

`S` seeds, `M` tasks, `H` settings; larger scores are better. NaN is a run without a score: a lane that failed
or was stopped. A statistic of one sample is NaN where a score of the sample is, so that the caller must leave
these runs out, and say so. Only `naniqm`, `ranking` and `seeds_needed`, which compare settings on the same seeds,
leave missing scores out themselves, each from its own setting alone.

An interval holds the statistic of all possible seeds with the frequency that its level gives;
benchmarks/results/coverage.md measures that frequency for each number of seeds. One seed says nothing about other
seeds: every interval is then NaN. Where all scores are equal an interval has no width, which is right only if all
other seeds' scores equal them too.

`sequences` has intervals for every number of seeds at once, which may be looked at as seeds are added.

Agarwal et al. 2021: Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS.
"""

from pgjax.statistics import sequences
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
    "sequences",
    "stratified",
]

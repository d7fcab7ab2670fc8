"""Summaries, tables and figures of the dataset of a run.

A dataset is a grid, with dimensions (axis..., seed, update), or a sampled search, with dimensions (setting, seed,
update) and each hyperparameter as a coordinate on `setting`. Every figure takes one dataset, label -> dataset, or
the `rows` of either.

A lane has no final return where it failed (not `finite`), a halving rule stopped it (`stopped`, which a dataset may
lack), or its evaluation overflowed. Statistics are over the other lanes; the lanes left out are counted and named.
"""

from pgjax.analysis.curves import curve, on_common_steps
from pgjax.analysis.drawing import NothingToDrawError
from pgjax.analysis.final_returns import forest, profiles
from pgjax.analysis.parallel_coordinates import parallel
from pgjax.analysis.sensitivity import heat_maps, influence, sensitivity
from pgjax.analysis.summary import Row, describe, descriptions, labels, ranked, rows, scores, settings_of, summarise
from pgjax.analysis.table import lost, table

__all__ = [
    "NothingToDrawError",
    "Row",
    "curve",
    "describe",
    "descriptions",
    "forest",
    "heat_maps",
    "influence",
    "labels",
    "lost",
    "on_common_steps",
    "parallel",
    "profiles",
    "ranked",
    "rows",
    "scores",
    "sensitivity",
    "settings_of",
    "summarise",
    "table",
]

"""The dataset of a run in; summaries, tables and figures out.

A dataset is a grid, with dimensions (axis..., seed, update), or a sampled search, with dimensions (setting, seed,
update) and each hyperparameter as a coordinate on `setting`. Every figure takes one dataset, label -> dataset, or
the `rows` of either.

A lane has no final return where it failed (not `finite`) or a halving rule stopped it (`stopped`, which a dataset
may lack). Statistics are over the other lanes, and what is left out is counted and named.
"""

from pgjax.report.coordinates import parallel
from pgjax.report.curves import curve, on_common_steps
from pgjax.report.drawing import NothingToDrawError
from pgjax.report.figures import forest, profiles
from pgjax.report.marginals import heat_maps, influence, sensitivity
from pgjax.report.summary import Row, describe, labels, ranked, rows, scores, settings_of, summarise
from pgjax.report.tables import table

__all__ = [
    "NothingToDrawError",
    "Row",
    "curve",
    "describe",
    "forest",
    "heat_maps",
    "influence",
    "labels",
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

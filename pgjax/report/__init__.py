"""The dataset of a run in; summaries, tables and figures out.

A dataset is a grid, with dimensions (axis..., seed, update), or a sampled search, with dimensions (setting, seed,
update) and each hyperparameter as a coordinate on `setting`. Every figure takes one dataset, label -> dataset, or
the `rows` of either.

A lane has no final return where it failed (not `finite`), a halving rule stopped it (`stopped`, which a dataset may
lack), or its evaluation overflowed. Statistics are over the other lanes, and what is left out is counted and named.
"""

from pgjax.report.coordinates import parallel
from pgjax.report.curves import curve, on_common_steps
from pgjax.report.drawing import NothingToDrawError
from pgjax.report.figures import forest, profiles
from pgjax.report.marginals import heat_maps, influence, sensitivity
from pgjax.report.summary import Row, describe, descriptions, labels, ranked, rows, scores, settings_of, summarise
from pgjax.report.tables import lost, table

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

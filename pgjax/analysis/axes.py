"""Makes an axis of each swept hyperparameter: positions, ticks and groups of settings."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pgjax.analysis.drawing import text
from pgjax.analysis.summary import Row, spelled

FEW = 8  # distinct values that are still shown one by one


@dataclasses.dataclass(frozen=True)
class Axis:
    """One hyperparameter over the settings.

    Attributes:
      position: [H] where each setting stands: its value, or for values that are no numbers the place in `distinct`.
      distinct: the values, in order.
      numeric, log: whether the values are numbers; whether they are positive and span a decade.
      group: [H] which group the setting is in: one for each value, or where there are many, quantiles of them.
      centre: [G] where each group stands; edges: [G + 1] where groups meet.
    """

    name: str
    position: np.ndarray
    distinct: list[Any]
    numeric: bool
    log: bool
    group: np.ndarray
    centre: np.ndarray
    edges: np.ndarray

    @property
    def few(self) -> bool:
        """Whether each distinct value is a group."""
        return len(self.centre) == len(self.distinct)

    def ticks(self) -> list[str]:
        """The distinct values as text."""
        return [text(name) for name in spelled(self.distinct).values()]


def swept(found: Sequence[Row]) -> list[Axis]:
    """Every hyperparameter that has more than one value among the rows."""
    names = [n for n in dict.fromkeys(n for row in found for n in row.values) if all(n in row.values for row in found)]
    axes = [_axis(name, [row.values[name] for row in found]) for name in names]
    return [axis for axis in axes if len(axis.distinct) > 1]


def _axis(name: str, values: list[Any]) -> Axis:
    numeric = all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in values)
    # Values that are no numbers keep the order in which they were given.
    distinct = sorted(set(values)) if numeric else list(dict.fromkeys(values))
    place = np.array([distinct.index(v) for v in values])
    log = numeric and distinct[0] > 0 and distinct[-1] >= 10 * distinct[0]
    position = np.array(values, float) if numeric else place.astype(float)
    if len(distinct) <= FEW or not numeric:
        centre = np.array(distinct, float) if numeric else np.arange(len(distinct), dtype=float)
        return Axis(name, position, distinct, numeric, log, place, centre, np.arange(len(distinct) + 1) - 0.5)
    bins = min(FEW, max(2, len(values) // 5))
    linear = np.log(position) if log else position
    edges = np.unique(np.quantile(linear, np.linspace(0, 1, bins + 1)))
    group = np.clip(np.searchsorted(edges, linear, side="right") - 1, 0, len(edges) - 2)
    centre = np.array([linear[group == g].mean() for g in range(len(edges) - 1)])
    centre, edges = (np.exp(centre), np.exp(edges)) if log else (centre, edges)
    return Axis(name, position, distinct, numeric, log, group, centre, edges)

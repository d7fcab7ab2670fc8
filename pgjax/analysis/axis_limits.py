"""Finds the ends of an axis on which given numbers can be drawn, whatever they are. NumPy, float64."""

import numpy as np

EQUAL = 1e-9  # of their size: numbers that lie closer than this are drawn as equal ones


LARGEST, SMALLEST = 1e150, 1e-150  # beyond these an axis overflows or underflows; float32 ends at 3e38


def limits(*data: np.ndarray, log: bool = False, margin: float = 0.05) -> tuple[float, float]:
    """The ends of an axis on which all the data can be drawn: finite and low < high, whatever the data.

    Numbers that have no place on the axis are left out: NaN, infinite ones and, on a logarithmic axis, those that are
    not positive. Equal numbers stand in the middle of an axis as wide as they are large (from 0.5 x to 1.5 x; zeros
    from -1 to 1; on a logarithmic axis from x / 2 to 2 x). Without data the axis goes from 0 to 1, or from 0.1 to 1.

    Args:
      data: arrays of any shapes, the ends of error bars included.
      log: whether the axis is logarithmic.
      margin: the share of the data's span that is added at either end.
    """
    values = np.concatenate([np.ravel(np.asarray(x, float)) for x in data] or [np.empty(0)])
    values = values[np.isfinite(values) & ((values > 0) | (not log))]
    if not len(values):
        return (0.1, 1.0) if log else (0.0, 1.0)
    values = np.clip(values, SMALLEST if log else -LARGEST, LARGEST)
    values = np.log(values) if log else values
    low, high = float(values.min()), float(values.max())
    size = 1.0 if log else max(abs(low), abs(high))
    if high - low <= max(EQUAL * size, SMALLEST):
        half = np.log(2) if log else 0.5 * size if size > SMALLEST else 1.0
        low, high = (low + high) / 2 - half, (low + high) / 2 + half
    else:
        low, high = low - margin * (high - low), high + margin * (high - low)
    return (float(np.exp(low)), float(np.exp(high))) if log else (float(low), float(high))

"""Ranges of hyperparameters in; a sample of settings, random or quasi-random, out."""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from pgjax.dependencies import importing
from pgjax.errors import digits
from pgjax.sweeps.values import bounded, distinct, whole

METHODS = ("sobol", "random")


class Range(NamedTuple):
    """Where a setting may lie: `Range("log", 1e-4, 1e-2)`.

    kind: "uniform"; "log", uniform in its logarithm; "int", whole numbers, both ends included.
    """

    kind: str
    low: float
    high: float

    def at(self, u: np.ndarray) -> list[float] | list[int]:
        """The values at the quantiles u [N] in [0, 1)."""
        if self.kind == "int":
            return [int(x) for x in np.floor(self.low + u * (self.high - self.low + 1))]
        if self.kind == "log":
            # Rounding in the exponent must not leave the range.
            values = np.exp(np.log(self.low) + u * (np.log(self.high) - np.log(self.low)))
            return [float(x) for x in np.clip(values, self.low, self.high)]
        return [float(x) for x in self.low + u * (self.high - self.low)]


def parse(name: str, text: Any) -> Any:
    """'log:1e-4:1e-2', 'uniform:0:1' and 'int:4:64' as a Range; what looks otherwise is given back as it is."""
    if isinstance(text, list) and any(isinstance(x, str) and x.partition(":")[1] for x in text):
        raise ValueError(f"{name} must be one range or a list of values, not both; got {','.join(map(str, text))}")
    kind, colon, rest = text.partition(":") if isinstance(text, str) else ("", "", "")
    if not colon:
        return text
    try:
        if kind not in ("uniform", "log", "int"):
            raise ValueError
        low, high = (float(digits(name, x)) for x in rest.split(":"))
    except ValueError:
        raise ValueError(f"{name} must be log:LOW:HIGH, uniform:LOW:HIGH or int:LOW:HIGH, got {text!r}") from None
    return checked_range(name, Range(kind, low, high))


def checked_range(name: str, given: Range) -> Range:
    """The range, if there is anything in it."""
    kind, low, high = given
    if kind not in ("uniform", "log", "int"):
        raise ValueError(f"{name}: a range is uniform, log or int, got {kind!r}")
    if not all(isinstance(x, (int, float)) for x in (low, high)):
        raise ValueError(f"{name}: a range needs numbers as its ends, got {low!r}, {high!r}")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{name}: a range needs finite ends, the first below the second; got {low:g}, {high:g}")
    if kind == "log" and low <= 0:
        raise ValueError(f"{name}: a log range needs ends above 0, got {low:g}")
    if kind == "int" and (low, high) != (int(low), int(high)):
        raise ValueError(f"{name}: an int range needs whole ends, got {low:g}, {high:g}")
    return given


def sample(
    settings: dict[str, Any], samples: int | None, method: str | None = None, seed: int = 0
) -> dict[str, Any] | list[dict[str, Any]]:
    """Settings as `pgjax.run` takes them: a grid where no Range is among them, else a list of N settings.

    Args:
      settings: name -> value, list of values, or Range. Each sampled point is tried with every combination
        of the lists.
      samples: N, how many points.
      method: "sobol", the default, Owen-scrambled (Sobol 1967; Owen 1998), evenly spread where N is a power of
        two; or "random".
      seed: of the sample.
    """
    samples, seed = whole("samples", samples), whole("seed", seed, least=0)
    if method not in (None, *METHODS):
        raise ValueError(f"search must be one of {', '.join(METHODS)}; got {method!r}")
    ranges = {name: checked_range(name, x) for name, x in settings.items() if isinstance(x, Range)}
    if not ranges:
        if samples is not None:
            raise ValueError(f"samples={samples} needs a range among the settings, such as learning_rate=log:1e-4:1e-2")
        if method is not None:
            raise ValueError(f"search={method!r} needs a range among the settings and samples; or leave it out")
        return settings
    if samples is None:
        raise ValueError(f"{next(iter(ranges))} is a range; say how many settings to draw from it: samples")
    rest = {name: x for name, x in settings.items() if name not in ranges}
    lists: dict[str, Any] = {name: x for name, x in rest.items() if isinstance(x, (list, range, np.ndarray))}
    count = samples * math.prod(map(len, lists.values()))
    bounded(f"samples={samples}, {count:,} settings in all,", count)
    for name, values in lists.items():
        lists[name] = list(values)
        distinct(name, lists[name])
    if method == "random":
        unit = np.random.default_rng(seed).random((samples, len(ranges)))
    else:
        with importing("scipy"):
            from scipy.stats import qmc

        # A power of two, of which the first are taken: anything else draws a warning from scipy.
        unit = qmc.Sobol(len(ranges), rng=np.random.default_rng(seed)).random_base2((samples - 1).bit_length())
        unit = unit[:samples]
    drawn = {name: one.at(unit[:, i]) for i, (name, one) in enumerate(ranges.items())}
    fixed = {name: x for name, x in rest.items() if name not in lists}
    points = [{name: values[i] for name, values in drawn.items()} for i in range(samples)]
    return [{**fixed, **point, **combination} for point in points for combination in grid(lists)]


def grid(values: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Every combination of the values, as one dict for each; the last name varies fastest."""
    return [dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())]

"""Hyperparameters by name, and how many of a thing, in; one clear line where training would only look like it, out."""

import contextlib
import math
from typing import Any

import numpy as np

LEAST, MOST = 2.0**-126, float(np.finfo(np.float32).max)  # of float32: what is smaller becomes 0, what is larger inf
LANES = 10**6  # of one run: every one is an entry of lists on the host

# Where a hyperparameter of the package's own plugs makes sense, both ends included; beyond, training only looks like
# it. inf is an end where it turns something off.
RANGES = {
    "advantage.discount": (0, 1),
    "advantage.gae_lambda": (0, 1),
    "advantage.gain_rate": (0, MOST),
    "advantage.clip_rho": (0, math.inf),
    "advantage.clip_c": (0, math.inf),
    "advantage.constant": (-MOST, MOST),
    "advantage.v_trace_lambda": (0, 1),
    "config.epsilon": (0, 1),
    "config.temperature": (LEAST, MOST),
    "estimator.clip_eps": (0, math.inf),
    "estimator.value_clip": (0, math.inf),
    "estimator.kl_coef": (0, MOST),
    "estimator.value_coef": (0, MOST),
    "estimator.entropy_coef": (-MOST, MOST),
    "estimator.huber_delta": (LEAST, math.inf),
    "estimator.stop_kl": (0, math.inf),
    "estimator.target_kl": (0, MOST),
    "estimator.max_kl": (LEAST, MOST),
    "estimator.damping": (0, MOST),
    "estimator.backtrack": (0, 1),
    "estimator.cg_steps": (1, math.inf),
    "estimator.line_search": (0, math.inf),
    "estimator.tau": (0, 1),
    "estimator.initial_alpha": (1e-9, MOST),
    "estimator.target_entropy_box": (-MOST, MOST),
    "estimator.target_entropy_finite": (-MOST, MOST),
    "estimator.epsilon_steps": (1, MOST),
    "estimator.epsilon_start": (0, 1),
    "estimator.epsilon_end": (0, 1),
    "advantage.reference_penalty": (0, MOST),
    "estimator.reference_coef": (0, MOST),
    "optimizer.warmup_steps": (0, MOST),
    "optimizer.anneal_steps": (1, math.inf),
    "optimizer.learning_rate": (LEAST, MOST),
    "optimizer.max_grad_norm": (LEAST, math.inf),
    "optimizer.eps": (0, MOST),
}


def within(full: str, number: float, value: Any) -> None:
    """ValueError where a hyperparameter isn't in its range, or isn't the same thing in float32."""
    low, high = RANGES.get(full, (-math.inf, math.inf))
    single = full.partition(".")[0] in ("advantage", "estimator", "optimizer") and isinstance(number, float)
    if not low <= number <= high:
        if high == MOST:
            least = {LEAST: "above 0 and ", -MOST: ""}.get(low, f"{low:g} or more and ")
            raise ValueError(f"{full} must be {least}finite in float32, got {value}")
        least = "above 0" if low == LEAST else f"in [{low:g}, {high:g}]"
        raise ValueError(f"{full} must {'be' if low == LEAST else 'lie'} {least}, got {value}")
    if single and number and (abs(number) < LEAST or MOST < abs(number) < math.inf):
        became = "0" if abs(number) < 1 else "inf" if number > 0 else "-inf"
        raise ValueError(f"{full}={value} becomes {became} in float32; give one between 1.2e-38 and 3.4e38")
    if full.startswith("config.") and isinstance(number, int) and abs(number) >= 2**31:
        raise ValueError(f"{full} must be {2**31 - 1} or less, got {value}")


def distinct(full: str, values: list[Any], single: bool = True) -> None:
    """ValueError where a list has a value twice, however it was spelled; `single`: as float32, as lanes have it."""

    def key(x):
        if isinstance(x, str):
            with contextlib.suppress(ValueError):
                return key(float(x))
        return float(np.float32(x)) if single and isinstance(x, float) and abs(x) <= MOST else x

    if len({key(x) for x in values}) < len(values):
        raise ValueError(f"{full} has the same value twice: {', '.join(map(str, values))}")


def bounded(what: str, count: int) -> int:
    """The count, if one run can have so many lanes; asked before any list of them is made."""
    if count > LANES:
        raise ValueError(f"{what} is more than the {LANES:,} lanes that one run may have; split it into several runs")
    return count

"""What a plug may declare beside the defaults of its hyperparameters: ranges, roles and traits.

    def loss(now, batch, *, clip_eps: Annotated[float, Range(0, math.inf)] = 0.2): ...

`pgjax.hyperparameters` reads them off the signature.
"""

import dataclasses
import enum
import math
from typing import Annotated, Any

import numpy as np

LEAST, MOST = 2.0**-126, float(np.finfo(np.float32).max)  # of float32: a smaller number becomes 0, a larger one inf


@dataclasses.dataclass(frozen=True)
class Range:
    """Where a hyperparameter makes sense, both ends included; inf is an end where it turns something off."""

    low: float = -math.inf
    high: float = math.inf


Probability = Annotated[float, Range(0, 1)]
Positive = Annotated[float, Range(LEAST, MOST)]
NonNegative = Annotated[float, Range(0, MOST)]
Finite = Annotated[float, Range(-MOST, MOST)]
Bound = Annotated[float, Range(0, math.inf)]  # inf: no bound


class Role(enum.Enum):
    """What the machinery around a plug does with one of its hyperparameters, whatever the hyperparameter is called.

    Declared in the annotation, as in `samples: Annotated[int, Role.SAMPLES] = 8`.
    """

    DISCOUNT = "scale_rewards divides by the spread of the return with this discount"
    GAIN_RATE = "the value after an end is that of the next start, since the reward's average is estimated"
    SAMPLES = "so many neighbouring episodes begin alike"
    REFERENCE = "the learner keeps its first parameters, from which this weighs the distance"
    IMPORTANCE = "corrects for another policy having acted: half of it in the advantage, half in the loss"
    RATIOS = "the ratios to the policy that acted are in the advantage already"
    REEVALUATE = "the loss takes target - value in place of the advantage"
    GAMMA_T = "multiplies the advantage by gamma^t"
    BASELINE = "the name of the baseline; 'value' is the critic's"
    REWARD_TO_GO = "weighs a step by what followed; False: by the return of its episode"
    NORMALIZE = "divides the advantage by its spread"
    KL_COEF = "weight of the loss's own KL penalty, which `adaptive_kl` adapts"
    STOP_KL = "ends an update where the KL to the policy that acted is above this; inf never does"
    TARGET_KL = "the KL to the policy that acted which a penalty steers to"
    MAX_KL = "the bound of a trust region"
    WARMUP = "environment steps before anything is learned"


class Trait(enum.Enum):
    """A fact about a whole plug, declared by `having`."""

    IN_ORDER = "needs the steps of an environment in order of time: [T, b], not rows"
    WHOLE_EPISODES = "needs whole episodes, from their first step to their last"
    BY_STEP = "a step's loss depends on that step alone; see `losses.by_step`"


def within(full: str, number: float, value: Any, allowed: Range) -> None:
    """ValueError where a hyperparameter isn't in its range, or isn't the same number in float32.

    Args:
      full: its part and name, for the message.
      value: as it was written, for the message.
    """
    low, high = allowed.low, allowed.high
    single = full.partition(".")[0] in ("advantage", "estimator", "optimizer") and isinstance(number, float)
    if not low <= number <= high:
        if high == MOST:
            least = {LEAST: "above 0 and ", -MOST: ""}.get(low, f"{low:g} or more and ")
            raise ValueError(f"{full} must be {least}finite in float32, got {value}")
        if low == LEAST or isinstance(number, int):
            raise ValueError(f"{full} must be {'above 0' if low == LEAST else f'{low:g} or more'}, got {value}")
        raise ValueError(f"{full} must lie in [{low:g}, {high:g}], got {value}")
    if single and number and (abs(number) < LEAST or MOST < abs(number) < math.inf):
        became = "0" if abs(number) < 1 else "inf" if number > 0 else "-inf"
        raise ValueError(f"{full}={value} becomes {became} in float32; give one between 1.2e-38 and 3.4e38")
    if full.startswith("config.") and isinstance(number, int) and abs(number) >= 2**31:
        raise ValueError(f"{full} must be {2**31 - 1} or less, got {value}")

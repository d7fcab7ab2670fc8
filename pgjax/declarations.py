"""What a plug may declare beside its hyperparameters' ranges: the role of each, and traits of the whole.

    def advantage(trajectory, now, *, samples: Annotated[int, Role.SAMPLES] = 8): ...

`pgjax.hyperparameters` reads them off the signature.
"""

import enum


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

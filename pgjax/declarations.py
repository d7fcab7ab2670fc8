"""What a plug may declare beside its hyperparameters' ranges: the role of each, and traits of the whole.

    def advantage(trajectory, now, *, samples: Annotated[int, Role.SAMPLES] = 8): ...

`pgjax.hyperparameters` reads them off the signature.
"""

import enum
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pgjax.types import Running

# Names that the pipeline gives its own metrics, and the axes of the dataset.
RESERVED = (
    *("loss", "grad_norm", "explained_variance", "episode_return", "episode_length", "env_steps", "finite"),
    *("eval_return_stochastic", "eval_return_greedy", "grad_square", "grad_trace", "noise_scale", "snr"),
    *("seed", "update", "episode", "setting", "stopped", "stop", "gradient_steps", "penalty", "kl_to_reference"),
)


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
    NOISE = "compares the gradients of environments as independent samples"
    WARMUP = "environment steps before anything is learned"


class Trait(enum.Enum):
    """A fact about a whole plug, declared by `having`."""

    IN_ORDER = "needs the steps of an environment in order of time: [T, b], not rows"
    WHOLE_EPISODES = "needs whole episodes, from their first step to their last"
    PLAYS = "an advantage that plays episodes of its own: see `plays`"
    BY_STEP = "a step's loss depends on that step alone; see `losses.by_step`"


Plug = TypeVar("Plug")


def having(plug: Plug, *traits: Trait) -> Plug:
    """Declare these traits of the function itself, and return it; a Running is returned anew.

    `functools.partial` and `bind` keep all traits, `declare` and `functools.wraps` keep what a plug needs; a promise,
    as BY_STEP is, must be given again, since a wrapper may break it.
    """
    if isinstance(plug, Running):
        return plug._replace(apply=having(plug.apply, *traits))
    try:
        plug.__traits__ = (plug, frozenset(traits) | traits_of(plug))  # type: ignore[attr-defined]  # of a function
    except AttributeError:
        raise TypeError(f"{plug!r}: traits are declared of a function; declare them of its __call__") from None
    return plug


def in_order(plug: Plug) -> Plug:
    """Declare that a plug needs the steps of each environment in order of time, [T, b]: it is given no loose rows."""
    return having(plug, Trait.IN_ORDER)


def whole_episodes(plug: Plug) -> Plug:
    """Declare that a plug needs whole episodes, [T, b]: a stream is refused."""
    return having(plug, Trait.WHOLE_EPISODES)


def plays(advantage: Callable[..., Any]) -> Any:
    """Declare that an advantage plays episodes of its own, from where the trajectory was: `(play, trajectory, now)`.

    play(rows, greedy=False, samples=1, discount=1.0) -> [t, B], for rows [t, B] of the trajectory: the discounted sum
    of the rewards that follow when the learning policy goes on from the state of each row, averaged over `samples`
    episodes; or by the mode of each distribution. None of it changes the stream, nor counts as `env_steps`. The rewards
    are the environment's own, whatever is put around the advantage; two calls with the same rows draw the same numbers.
    A greedy baseline (ReMax) plays from the first rows, values by Monte Carlo (VinePPO) from all.
    """
    return having(advantage, Trait.PLAYS)


def traits_of(plug: Any) -> frozenset[Trait]:
    """The declared traits of a plug, whatever was bound to it or put around it since."""
    wrapped = False
    for layer in layers(plug):
        owner, found = getattr(layer, "__traits__", (None, frozenset()))
        if owner is layer:  # functools.wraps copies attributes to another function
            return found - {Trait.BY_STEP} if wrapped else found
        wrapped = wrapped or hasattr(layer, "__wrapped__")
    return frozenset()


def layers(plug: Any) -> Iterator[Any]:
    """The plug, and one after another what it binds, wraps or calls."""
    if isinstance(plug, Running):
        plug = plug.apply
    while plug is not None:
        yield plug
        if isinstance(plug, functools.partial):
            plug = plug.func
        elif inspect.ismethod(plug):
            plug = plug.__func__
        elif hasattr(plug, "__wrapped__"):
            plug = plug.__wrapped__
        else:
            plug = type(plug).__call__ if callable(plug) and not inspect.isroutine(plug) else None

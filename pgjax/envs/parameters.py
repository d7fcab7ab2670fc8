"""Sets an environment's parameters by name: checks the values, and recomputes parameters that derive from others."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.errors import unknown
from pgjax.types import Env, PyTree


class Static(dict[str, Any]):
    """Name -> default of everything that `make` takes for an environment.

    `built` names the constructor's arguments, in which the lanes of one program can't differ; by default all names.
    """

    def __init__(self, values: dict[str, Any], built: Any = None):
        super().__init__(values)
        self.built = frozenset(values if built is None else built)


def with_params(env: Env, values: dict[str, Any]) -> PyTree:
    """The environment's parameters with some replaced; the values may be traced."""
    return replace_fields(env.params, values, "the environment")


LIMIT = "max_steps_in_episode"


_MOST = 2**31 - 1  # gymnax counts steps in int32


class Derived(NamedTuple):
    """A parameter that gymnax computes from others once, and doesn't recompute where they are replaced."""

    formula: str
    of: Callable[[Any], Any]  # params -> its value


# The class of the parameters -> the parameters that it computes from others.
DERIVED = {
    "gymnax.environments.classic_control.cartpole.EnvParams": {
        "total_mass": Derived("masscart + masspole", lambda p: p.masscart + p.masspole),
        "polemass_length": Derived("masspole * length", lambda p: p.masspole * p.length),
    },
    "gymnax.environments.misc.bernoulli_bandit.EnvParams": {
        "t_max": Derived(LIMIT, lambda p: p.max_steps_in_episode),
    },
}


# Name of the environment -> parameters that gymnax declares but never uses for observations or rewards.
UNUSED = {
    "Acrobot-v1": ("link_length_2",),
    "Asterix-MinAtar": ("shot_cool_down",),
    "Seaquest-MinAtar": ("ramp_interval", "enemy_move_interval"),
    "SimpleBandit-bsuite": ("optimal_return",),
    "MNISTBandit-bsuite": ("optimal_return",),
}


# Name of the environment -> a surprise in it, for `pgjax list ENV`.
NOTES = {
    "Acrobot-v1": "Centres of mass and the moment of inertia are set for themselves: they don't follow the lengths.",
    "DeepSea-bsuite": "Which action goes right is drawn once, by a fixed key, for each cell (env.randomize_actions).",
    "DiscountingChain-bsuite": "Episodes end by the time limit alone; an arm that pays later than it never pays.",
    "MetaMaze-misc": "Looks for the goal after it moved the agent away: reaching it ends the episode only by chance.",
    "SimpleBandit-bsuite": "Draws at every reset which arm pays what and shows nothing of it: no policy beats .5.",
    "FourRooms-misc": "With env.fail_prob=p the chosen action is done with probability 1 - p, each other with p / 3.",
    "MNISTBandit-bsuite": "Downloads its images; reads bytes from 128 on as negative: white is -1/255.",
    "PointRobot-misc": "Its clock goes from -1 to 1 in 100 steps, whatever the time limit.",
    "GaussianBandit-misc": "Its clock goes from -1 to 1 in 100 steps, whatever the time limit.",
    "MemoryChain-bsuite": "Shows -1, outside the bounds that it declares; the space here has none.",
    "UmbrellaChain-bsuite": "Pays whole numbers and leaves its declared bounds; both are mended here.",
    "BernoulliBandit-misc": "Pays whole numbers; rewards are float32 here.",
    "Catch-bsuite": "Declares whole numbers and shows real ones; the space here is that of what it shows.",
    "Freeway-MinAtar": "The one game of MinAtar here that runs past 1,000 steps: 2,500.",
    "MountainCarContinuous-v0": "Each step costs .1 times the squared action, the one that reaches the goal too.",
}


def derived(params: PyTree) -> dict[str, Derived]:
    """Name -> `Derived`, for the parameters that are computed from others."""
    classes = (f"{cls.__module__}.{cls.__qualname__}" for cls in type(params).__mro__)
    return next((DERIVED[name] for name in classes if name in DERIVED), {})


def replace_fields(params: PyTree, values: dict[str, Any], owner: str) -> PyTree:
    """The parameters with some replaced, and derived ones recomputed; the values may be traced.

    Args:
      owner: the environment's registered name where it has one, for messages.

    Raises:
      ValueError: for an unknown, a derived or an unused parameter; for a value that is no number, or is infinite and no
        bound; for a time limit below 1.
    """
    known = param_names(params)
    for name in values:
        if name not in known:
            raise ValueError(unknown(f"{owner} takes no parameter", name, known))
    check_values(params, values, owner)
    if not values:
        return params
    # BernoulliBandit-misc has a limit of 100.0, and compares it with floats.
    values = {name: float(x) if _is_float_limit(name, known[name], x) else x for name, x in values.items()}
    if isinstance(params, dict):
        return {**params, **values}
    if hasattr(params, "_fields"):
        return params._replace(**values)
    return _with_derived(dataclasses.replace(params, **values))


def settled(params: PyTree, owner: str) -> PyTree:
    """A user's parameters, with derived ones recomputed.

    Raises:
      ValueError: where a derived parameter was set to another value than its formula's, and for a bad time limit.
    """
    time_limit(f"{owner}: {LIMIT}", getattr(params, LIMIT))
    found = derived(params)
    usual: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(params)} if found else {}
    for name, (formula, of) in found.items():
        given, right = getattr(params, name), of(params)
        if any(isinstance(x, jax.core.Tracer) for x in (given, right)):
            continue
        if not np.allclose(given, right) and not np.allclose(given, usual[name]):
            raise ValueError(f"{owner}: {name}={given}, but it is {formula} = {right}; leave {name} out and set these")
    return _with_derived(params)


def check_values(params: PyTree, values: dict[str, Any], owner: str) -> None:
    """ValueError where a value doesn't suit its parameter; traced values are not checked."""
    known, computed = param_names(params), derived(params)
    for name in values:
        if name in computed:
            formula = computed[name].formula
            raise ValueError(f"{owner}: {name} is computed as {formula}; leave {name} out and set what it follows from")
        if name in UNUSED.get(owner, ()):
            raise ValueError(f"{owner}: nothing depends on {name}, in gymnax; leave it out")
        if name in known and not isinstance(values[name], jax.core.Tracer):
            _check_value(f"{owner}: {name}", name, values[name], known[name])


def _check_value(what: str, name: str, value: Any, default: Any) -> None:
    if name == LIMIT:
        time_limit(what, value)
    if hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return
    array = np.asarray(value)
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        if isinstance(default, (bool, int, float)):
            raise ValueError(f"{what}={value!r} is no number; give one, like its default {default}")
        return
    if array.dtype == bool and isinstance(default, float):
        raise ValueError(f"{what}={value} is no number; give one, like its default {default}")
    # An infinite bound means no bound.
    bound = name.startswith(("max_", "min_")) and not name.endswith("_lim") or "threshold" in name
    bound |= isinstance(default, float) and math.isinf(default)
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)  # as the environment will see it
    if np.any(np.isnan(array)) or not bound and not np.all(np.isfinite(narrow)):
        raise ValueError(f"{what}={value} is not finite as a float32; give a finite number")


def time_limit(what: str, value: Any) -> int:
    """A number of steps as an int; ValueError where it isn't a whole number of 1 or more."""
    number = value.item() if getattr(value, "ndim", None) == 0 else value
    whole = isinstance(number, (int, float)) and not isinstance(number, bool)
    if not whole or not 1 <= number <= _MOST or number != int(number):
        raise ValueError(f"{what}={value!r} is no time limit; give a whole number of steps, from 1 to {_MOST}")
    return int(number)


def param_names(params: PyTree) -> dict[str, Any]:
    """Name -> value of an environment's parameters: a dict, a NamedTuple or a dataclass."""
    if isinstance(params, dict):
        return params
    if hasattr(params, "_fields"):
        return params._asdict()
    if dataclasses.is_dataclass(params):
        fields = [field.name for field in dataclasses.fields(params)]
        return {name: getattr(params, name) for name in fields if not name.startswith("_")}
    return {}


def _with_derived(params: PyTree) -> PyTree:
    found = derived(params)
    return dataclasses.replace(params, **{name: x.of(params) for name, x in found.items()}) if found else params


def _is_float_limit(name: str, default: Any, value: Any) -> bool:
    return name == LIMIT and isinstance(default, float) and not isinstance(value, jax.core.Tracer)

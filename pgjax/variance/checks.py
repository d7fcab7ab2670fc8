"""Checks the estimators and sizes that a user asks for, before anything runs; a mistake is one line with its fix."""

import math
from typing import Any

import numpy as np

from pgjax.advantages.baselines import BASELINES
from pgjax.declarations import Role, Trait, traits_of
from pgjax.envs.observations import content
from pgjax.hyperparameters import name_of, value_of
from pgjax.oracle import mdp as oracle_mdp
from pgjax.oracle.mdp import MDP
from pgjax.policies.traits import has_memory
from pgjax.types import Env, Policy
from pgjax.variance.estimators.custom import Estimator, Plugs, Sampler
from pgjax.variance.estimators.score_functions import ScoreFunction, named

CHUNK_BYTES = 256e6  # of one chunk's steps and gradients


def named_estimators(given: Any) -> dict[str, Estimator]:
    """Name -> estimator, from a list of names or a dict."""
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise TypeError(f"estimators must be a list of names or a dict, got {given!r}")
    pairs = given.items() if isinstance(given, dict) else [(name, name) for name in given]
    chosen = {}
    for name, one in pairs:
        if name in chosen:
            raise ValueError(f"estimators: {name!r} was given twice")
        if isinstance(one, str):
            one = named(one)
        elif callable(one) and not isinstance(one, (Plugs, Sampler)):
            one = Sampler(one)
        if not isinstance(one, (ScoreFunction, Plugs, Sampler)):
            raise TypeError(
                f"estimator {name!r} must be a name, a ScoreFunction, Plugs(advantage, estimator), or a function "
                f"gradient(key, params); got {one!r}"
            )
        if isinstance(one, Plugs) and value_of(one.advantage, Role.SAMPLES, 1) != 1:
            raise ValueError(
                f"estimator {name!r}: {name_of(one.advantage)} needs episodes that begin alike; make a Sampler of "
                "rollout.episodes(samples=...), as experiments/grpo_bias.py does"
            )
        if isinstance(one, Plugs) and Trait.PLAYS in traits_of(one.advantage):
            raise ValueError(
                f"estimator {name!r}: {name_of(one.advantage)} plays episodes of its own; make a Sampler that calls "
                "algorithms.playing.play_on"
            )
        if one.batch < 1:
            raise ValueError(f"estimator {name!r}: batch must be 1 or more, got {one.batch}")
        chosen[name] = one
    if not chosen:
        raise ValueError("estimators: none was given")
    return chosen


def enumerable(env: Env, policy: Policy, discount: float) -> MDP | None:
    """The tables of an environment, from which the gradient is exact; None for one without, or a policy with memory."""
    try:
        return None if has_memory(policy) else oracle_mdp.from_env(env, discount)
    except ValueError:
        return None


def samplers_alone(chosen: dict[str, Estimator], gradient: Any) -> None:
    """Raises an error unless `gradient` is None, or a function that is given with Samplers alone."""
    if gradient is not None and not callable(gradient):
        raise TypeError(f"gradient must be a function of params, got {gradient!r}")
    others = [name for name, one in chosen.items() if not isinstance(one, Sampler)]
    if gradient is not None and others:
        raise ValueError(f"gradient: estimator {others[0]!r} estimates that of the discounted J; give Samplers alone")


def possible(chosen: dict[str, Estimator], env: Env, policy: Policy, mdp: Any, discount: float) -> None:
    """Raise a ValueError for an estimator that needs what the environment or the policy lacks."""
    if not 0 <= discount <= 1:
        raise ValueError(f"discount must lie in [0, 1], got {discount}")
    for name, row in chosen.items():
        if not isinstance(row, ScoreFunction):
            continue
        if row.critic == "exact" and mdp is None:
            raise ValueError(f"estimator {name!r} needs exact values, and the environment is no TabularMDP")
        baseline = BASELINES[row.baseline]
        if row.over_actions and not hasattr(env.action_space, "n"):
            raise ValueError(f"estimator {name!r} sums over actions, and the action space is {env.action_space!r}")
        if baseline.by_state and not hasattr(content(env.observation_space), "n"):
            raise ValueError(f"estimator {name!r} has a baseline per state, and states are {env.observation_space!r}")
        steps = baseline.pilot == "least_variance" or row.precondition == "natural" or row.over_actions
        if steps and has_memory(policy):
            raise ValueError(f"estimator {name!r} looks at single steps, and the policy has a memory")


def levels(chosen: dict[str, Estimator], batch: Any, episodes: int) -> tuple[tuple[int, ...], int]:
    """Batch sizes, 1 and the estimators' own included, and the episodes rounded up to whole batches of the largest."""
    if not isinstance(batch, (tuple, list)) or any(not isinstance(n, (int, np.integer)) or n < 1 for n in batch):
        raise ValueError(f"batch must be a tuple of whole numbers of 1 or more, got {batch!r}")
    sizes = sorted({1, *batch, *(e.batch for e in chosen.values())})
    for small, large in zip(sizes[:-1], sizes[1:], strict=True):
        if large % small:
            raise ValueError(f"batch: each size must divide the next, got {', '.join(map(str, sizes))}")
    if episodes < 8 * sizes[-1]:
        raise ValueError(
            f"episodes={episodes} makes fewer than 8 batches of {sizes[-1]}; "
            f"take {8 * sizes[-1]} episodes or more, or smaller batches"
        )
    return tuple(sizes), math.ceil(episodes / sizes[-1]) * sizes[-1]


def counts(**given: tuple[int, int]) -> None:
    """Each a whole number, and no less than its least."""
    for name, (value, least) in given.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name} must be {least} or more, got {value}")


def chunk(levels: tuple[int, ...], total: int, numbers: int, least: int) -> int:
    """Episodes of one call: as many as fit, leave folds enough, and split neither a level nor an estimate.

    `numbers`: float32 numbers of one episode, its steps and its gradients.
    """
    # Between two levels, what the lower divides and what divides the upper; above the last, its multiples.
    sizes = [a * d for a, b in zip(levels, levels[1:], strict=False) for d in range(1, b // a) if (b // a) % d == 0]
    sizes += [levels[-1] * 2**j for j in range(9)]
    fits = [n for n in sizes if n * numbers * 4 <= CHUNK_BYTES and n * 32 <= total and least <= n <= 256]
    return max(fits, default=least)

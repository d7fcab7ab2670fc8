"""Baselines: the number that a return is compared with, by name, for training and for the laboratory."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from pgjax.envs.observations import state_index
from pgjax.types import Array, Evaluation, Trajectory


class Fitted(NamedTuple):
    """Numbers that the laboratory fits to a pilot, which shares no episode with the measured sample."""

    mean: Array  # [] mean return of a step
    steps: Array  # [] steps of the pilot
    by_time: Array  # [T] mean return at t
    optimal: Array  # [] the constant of least variance
    optimal_time: Array  # [T]
    optimal_state: Array  # [S], or [1] where states are no table

    @classmethod
    def none(cls) -> "Fitted":
        """For training, and for estimators that take nothing from a pilot."""
        return cls(*[jnp.zeros(())] * len(cls._fields))


class Sample(NamedTuple):
    """The inputs of a baseline, for a batch [T, B]."""

    returns: Array  # [T, B] from which the baseline is subtracted
    whole: bool  # whether each is the return of its whole episode
    trajectory: Trajectory
    now: Evaluation  # `value` is the critic's
    constant: Array | float  # [] the hyperparameter; in the laboratory the pilot's mean return where it is None
    mean_so_far: Array  # [] mean of all returns so far, of this batch too
    fitted: Fitted


class Table(NamedTuple):
    """The inputs of a baseline's table, in an enumerable environment, float64."""

    value: np.ndarray  # [T, S] the critic's
    constant: np.ndarray | float
    fitted: Fitted


class Baseline(NamedTuple):
    """One row of `BASELINES`: a baseline and the facts that training and the laboratory need of it."""

    summary: str
    value: Callable[[Sample], Array]  # b_t, [] or [T, B]
    table: Callable[[Table], ArrayLike] | None = None  # b_t(s), [T, S]; None where (t, s) doesn't fix it
    trains: bool = True  # whether `monte_carlo` offers it
    uses_critic: bool = False  # then the critic's target is the return
    pilot: Literal["", "returns", "least_variance"] = ""  # the part of Fitted that it needs
    by_state: bool = False  # whether it needs states that are numbers of a table
    depends_on_batch: bool = False  # whether it mixes the episodes of a batch
    biased: str = ""  # why; empty for an unbiased one


def mean_of_others(x: Array) -> Array:
    """For each column of [T, B], the mean of the other columns in the same row."""
    return (jnp.sum(x, axis=1, keepdims=True) - x) / (x.shape[1] - 1)


def _leave_one_out(sample: Sample) -> Array:
    if sample.returns.shape[1] < 2:
        raise ValueError("baseline='leave_one_out' needs two environments or more, num_envs is 1; add environments")
    # Episodes that have ended count as 0, except in the return of the whole episode.
    return mean_of_others(sample.returns if sample.whole else sample.returns * sample.trajectory.mask)


BASELINES: dict[str, Baseline] = {
    "none": Baseline("0", lambda sample: jnp.zeros(()), lambda table: 0.0),
    "constant": Baseline(
        "the number `constant`; in the laboratory by default the mean return of the pilot",
        lambda sample: jnp.asarray(sample.constant),
        lambda table: table.constant,
        pilot="returns",
    ),
    "running_mean": Baseline(
        "the mean of all returns so far, this batch included",
        lambda sample: sample.mean_so_far,
        pilot="returns",
        depends_on_batch=True,
        biased="each return is part of its own mean: short by about 1 / (returns so far)",
    ),
    "leave_one_out": Baseline(
        "the mean of the other episodes' returns at the same t, 0 for episodes that have ended (Kool et al. 2019)",
        _leave_one_out,
        depends_on_batch=True,
    ),
    "value": Baseline(
        "the critic's value", lambda sample: sample.now.value, lambda table: table.value, uses_critic=True
    ),
    "time": Baseline(
        "the pilot's mean return at each t",
        lambda sample: sample.fitted.by_time[sample.trajectory.time],
        lambda table: table.fitted.by_time[:, None],
        trains=False,
        pilot="returns",
    ),
    "optimal": Baseline(
        "the constant of least variance (Greensmith et al. 2004), fitted to the pilot",
        lambda sample: sample.fitted.optimal,
        lambda table: table.fitted.optimal,
        trains=False,
        pilot="least_variance",
    ),
    "optimal_time": Baseline(
        "the function of t of least variance, fitted to the pilot",
        lambda sample: sample.fitted.optimal_time[sample.trajectory.time],
        lambda table: table.fitted.optimal_time[:, None],
        trains=False,
        pilot="least_variance",
    ),
    "optimal_state": Baseline(
        "the function of the state of least variance, fitted to the pilot",
        lambda sample: sample.fitted.optimal_state[state_index(sample.trajectory.obs)],
        lambda table: table.fitted.optimal_state,
        trains=False,
        pilot="least_variance",
        by_state=True,
    ),
}


def exact_value(expected_reward: Array) -> Callable[[Trajectory, Evaluation], tuple[Array, Array]]:
    """The AdvantageFn r - sum_a pi(a | s) R(s, a), for environments in which one decision is an episode: bandits.

    Its baseline is the exact value of the policy that is being learned, where others estimate it.

    Args:
      expected_reward: R, [S, A], of every discrete observation and action.

    Raises:
      ValueError: for an expected_reward that is not [S, A], or whose A is not the policy's.
    """
    expected_reward = jnp.asarray(expected_reward)
    if expected_reward.ndim != 2:
        raise ValueError(f"exact_value: expected_reward must be [S, A], got shape {expected_reward.shape}")

    def exact_value(trajectory, now):
        pi = jnp.exp(now.dist.log_probs())
        if pi.shape[-1] != expected_reward.shape[1]:
            raise ValueError(f"exact_value: expected_reward has {expected_reward.shape[1]} actions, pi {pi.shape[-1]}")
        return trajectory.reward - jnp.sum(pi * expected_reward[state_index(trajectory.obs)], axis=-1), now.value

    return exact_value

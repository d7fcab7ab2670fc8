"""Returns: the numbers that follow an action, by name, for the laboratory; training shares `from_the_start`.

Each row also has the exact recursion of its return, from which the laboratory has exact moments where it can.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.numerics import returns
from pgjax.types import Array, Evaluation, Trajectory


class Episodes(NamedTuple):
    """The inputs of a return, for whole episodes [T, B]."""

    trajectory: Trajectory
    now: Evaluation  # with the critic's values
    discount: Array  # [], or [T, B] where ratios correct the rewards after a step
    n: int
    lambda_: float

    @property
    def ends(self) -> tuple[Array, Array]:
        return self.trajectory.terminated, self.trajectory.truncated


class Transition(NamedTuple):
    """The inputs of a return's recursion: one step from s by a to s' in an enumerable environment, float64."""

    reward: np.ndarray  # [S, A, 1]
    here: np.ndarray  # [S, 1, 1] the critic's value of s
    ahead: np.ndarray  # [S'] the critic's value of s', 0 where it is terminal
    rho: np.ndarray  # [S, A, 1] pi / b
    discount: float
    n: int
    lambda_: float


class Return(NamedTuple):
    """One row of `RETURNS`: a return and the facts that the laboratory needs of it.

    `recursion` gives the K numbers z_t that make up the return, the last of which is the return itself, as rows over
    (1, z_{t+1}): [S, A, S', K, 1 + K], or a shape that broadcasts to it.
    """

    summary: str
    value: Callable[[Episodes], Array]  # [T, B]
    recursion: Callable[[Transition], np.ndarray]
    whole: bool = False  # whether it is the same at all steps of an episode, discounted from the start
    bootstraps: bool = False  # whether it uses the critic
    ends_in_value: bool = False  # whether z after a truncated episode is the critic's value, and not 0
    own_baseline: bool = False  # whether a baseline is part of it
    score_only: bool = False  # whether it has a meaning for surrogate="score" alone
    over_actions: bool = False  # whether the estimate sums over actions; the return is then 1


def from_the_start(to_go: Array, time: Array) -> Array:
    """G_0 of the episode that each step belongs to, [T, B]: `to_go` at the episode's first step in the array."""

    def carry(g, inputs):
        g = jnp.where(inputs[1] == 0, inputs[0], g)
        return g, g

    return jax.lax.scan(carry, to_go[0], (to_go, time))[1]


def _to_go(e: Episodes) -> Array:
    return returns.discounted_return(e.trajectory.reward, *e.ends, e.discount)


def _n_step(e: Episodes) -> Array:
    return returns.n_step_return(e.trajectory.reward, e.now.next_value, *e.ends, e.discount, e.n)


def _lambda(e: Episodes) -> Array:
    return returns.lambda_return(e.trajectory.reward, e.now.next_value, *e.ends, e.discount, e.lambda_)


def _gae(e: Episodes) -> Array:
    return returns.gae(e.trajectory.reward, e.now.value, e.now.next_value, *e.ends, e.discount, e.lambda_)


def _v_trace(e: Episodes) -> Array:
    log_rho = (e.now.log_prob - e.trajectory.log_prob) * e.trajectory.mask
    return returns.v_trace(log_rho, e.trajectory.reward, e.now.value, e.now.next_value, *e.ends, e.discount)[1]


def _one(constant: np.ndarray | float, factor: np.ndarray | float) -> np.ndarray:
    """z_t = constant + factor z_{t+1}, of a return that is one number."""
    return np.stack(np.broadcast_arrays(constant, factor), axis=-1)[..., None, :]


def _n_step_recursion(step: Transition) -> np.ndarray:
    """The returns of 1, ..., n steps: each is the reward and the next shorter one of the following step."""
    first = step.reward + step.discount * step.ahead
    rows = np.zeros((*first.shape, step.n, 1 + step.n))
    rows[..., 0, 0] = first
    for j in range(1, step.n):
        rows[..., j, 0], rows[..., j, j] = step.reward, step.discount
    return rows


def _lambda_recursion(step: Transition) -> np.ndarray:
    constant = step.reward + step.discount * (1 - step.lambda_) * step.ahead
    return _one(constant, step.discount * step.lambda_)


def _error(step: Transition) -> np.ndarray:
    """The temporal difference r + gamma V(s') - V(s)."""
    return step.reward + step.discount * step.ahead - step.here


def _v_trace_recursion(step: Transition) -> np.ndarray:
    # z_t is v_t - V_t; the advantage adds z_{t+1} to one step's error, so here both are the same number.
    clipped = np.minimum(step.rho, 1.0)
    return _one(clipped * _error(step), step.discount * clipped)


RETURNS: dict[str, Return] = {
    "full": Return(
        "the return G_0 of the whole episode (Williams 1992)",
        lambda episodes: from_the_start(_to_go(episodes), episodes.trajectory.time),
        lambda step: _one(step.reward, step.discount),
        whole=True,
    ),
    "to_go": Return("the reward-to-go G_t", _to_go, lambda step: _one(step.reward, step.discount)),
    "n_step": Return("the n-step return", _n_step, _n_step_recursion, bootstraps=True, ends_in_value=True),
    "lambda": Return("the lambda-return", _lambda, _lambda_recursion, bootstraps=True, ends_in_value=True),
    "gae": Return(
        "generalised advantage estimation; its baseline is within",
        _gae,
        lambda step: _one(_error(step), step.discount * step.lambda_),
        bootstraps=True,
        own_baseline=True,
    ),
    "v_trace": Return(
        "V-trace (Espeholt et al. 2018); its importance ratios and its baseline are within",
        _v_trace,
        _v_trace_recursion,
        bootstraps=True,
        own_baseline=True,
        score_only=True,
    ),
    "all_action": Return(
        "the sum over actions of d pi(a | s) Q(s, a), with Q exact or one step ahead by the learned critic "
        "(Sutton et al. 2000; Ciosek & Whiteson 2018)",
        lambda episodes: jnp.ones_like(episodes.trajectory.reward),
        lambda step: _one(0.0, 0.0),
        bootstraps=True,
        own_baseline=True,
        score_only=True,
        over_actions=True,
    ),
}

"""Exact moments of linear recursions, such as returns and estimators, and every trajectory of an enumerable MDP."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pgjax import rollout
from pgjax.numerics import time_limits
from pgjax.oracle.mdp import MDP, checked_tables
from pgjax.types import Step, Trajectory


class Projected(NamedTuple):
    """First and second moments of a gradient estimator."""

    mean: np.ndarray  # [P]
    trace: np.ndarray  # [] of the covariance
    variance: np.ndarray  # [P] of each parameter


def moments(
    mdp: MDP, pi: np.ndarray, step: Callable[[int], np.ndarray], last: Callable[[bool], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Exact E[z_0], [K], and E[z_0 z_0^T], [K, K], where z_t = step(t)[s_t, a_t, s_{t+1}] @ z_{t+1}.

    Sobel's recursion (1982) for the variance of a return, in K dimensions: given s_{t+1} the future is
    independent of the past, so M_t[s] = sum_{a, s'} pi P X M_{t+1}[s'] X^T with X = step(t).

    Args:
      pi: [S, A], the acting policy, which need not be the policy whose gradient is estimated.
      step: t -> [S, A, S, K, K]; or [S, A, 1, K, K] where s_{t+1} plays no part, which is S times cheaper.
      last: true after a termination, false after a truncation -> [S, K]: z at the state then entered.
    """
    mdp, pi = checked_tables(mdp, pi, limited=True)
    horizon, ended = mdp.horizon or 0, mdp.terminal
    shape = np.shape(last(True))
    if shape[:-1] != (len(pi),) or np.shape(last(False)) != shape:
        raise ValueError(f"moments: last has shapes {shape} and {np.shape(last(False))}, expected [S, K] twice")
    mean = np.where(ended[:, None], last(True), last(False)).astype(np.float64)
    second = mean[:, :, None] * mean[:, None, :]
    for t in reversed(range(horizon)):
        x, shape = np.asarray(step(t), np.float64), (*mdp.transition.shape, *second.shape[1:])
        if x.shape not in (shape, (*pi.shape, 1, *second.shape[1:])):
            raise ValueError(f"moments: step({t}) has shape {x.shape}, expected [S, A, S, K, K] = {shape}")
        weight, m, mm = pi[:, :, None] * mdp.transition, mean, second
        if x.shape[2] == 1:
            weight = pi[:, :, None]
            m, mm = (np.tensordot(mdp.transition, y, 1)[:, :, None] for y in (mean, second))
        m = np.einsum("sax,saxi->si", weight, (x @ m[..., None])[..., 0])
        mm = np.einsum("sax,saxij->sij", weight, x @ mm @ np.swapaxes(x, -1, -2))
        mean, second = np.where(ended[:, None], mean, m), np.where(ended[:, None, None], second, mm)
    return mdp.start @ mean, np.tensordot(mdp.start, second, 1)


def project(mean: np.ndarray, second: np.ndarray, scores: np.ndarray) -> Projected:
    """Moments of g = sum_{s, a} c[s, a] scores[s, a], from E[c] [SA] and E[c c^T] [SA, SA]; no [P, P] is formed.

    Every score-function estimator is such a sum: c[s, a] adds up the weights of the steps that took a in s.
    """
    phi = scores.reshape(len(mean), -1)
    variance = np.sum(phi * ((second - np.outer(mean, mean)) @ phi), axis=0)
    return Projected(mean @ phi, variance.sum(), variance)


def covariance(mean: np.ndarray, second: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The covariance [P, P] of the estimator that `project` describes."""
    phi = scores.reshape(len(mean), -1)
    return phi.T @ (second - np.outer(mean, mean)) @ phi


def trajectories(mdp: MDP, pi: np.ndarray, most: int = 200_000) -> tuple[Trajectory, np.ndarray]:
    """Every trajectory [T, N] of positive probability under pi [S, A], and its probability [N].

    The trajectories are whole episodes. After an end the action is the likeliest one, and `next_obs` is the last state
    too. ValueError where N would exceed `most`.
    """
    mdp, pi = checked_tables(mdp, pi, limited=True)
    horizon = mdp.horizon or 0
    joint, ended = pi[:, :, None] * mdp.transition, np.flatnonzero(mdp.terminal)
    joint[ended] = 0
    joint[ended, np.argmax(pi[ended], axis=1), ended] = 1  # after an end there is one way on
    # Counted before any is made, in Python's integers, which don't overflow.
    ways = np.linalg.matrix_power(np.sum(joint > 0, axis=1).astype(object), horizon)
    total = np.sum(ways[mdp.start > 0])
    if total > most:
        raise ValueError(f"trajectories: there are {total}, more than most={most}; shorten the horizon or raise most")
    path = np.flatnonzero(mdp.start > 0)[None]  # rows: s_0, a_0, s_1, a_1, ...
    for _ in range(horizon):
        parent, action, entered = np.nonzero(joint[path[-1]])
        path = np.concatenate([path[:, parent], action[None], entered[None]])
    obs, action, entered = path[:-1:2], path[1::2], path[2::2]
    alive, terminal = ~mdp.terminal[obs], mdp.terminal[entered]
    reward: Any = np.where(alive, mdp.reward[obs, action], 0).astype(np.float32)
    never: Any = np.zeros_like(alive)
    seen = Step(entered.astype(np.int32), reward, terminated=alive & terminal, truncated=never)
    seen = time_limits.cut(seen, np.arange(horizon)[:, None], horizon)
    trajectory = rollout.row(
        obs=obs.astype(np.int32),
        time=(np.cumsum(alive, axis=0) - alive).astype(np.int32),
        action=action.astype(np.int32),
        log_prob=np.log(pi[obs, action]).astype(np.float32),
        seen=seen._replace(truncated=seen.truncated & alive),
        mask=alive.astype(np.float32),
    )
    return trajectory, mdp.start[obs[0]] * np.prod(joint[obs, action, entered], axis=0)

"""Computes the exact mean and covariance of a row's estimate in an enumerable environment, without sampling.

An estimate is g = sum_{s, a} c[s, a] d log pi(a | s), where c adds up the weights of the steps that took a
in s. For every row below, c and the return follow a linear backward recursion z_t = M_t z_{t+1}, whose
second moments `oracle.moments` carries exactly. This is independent of `weights`: the tests hold them together.
"""

from typing import NamedTuple

import jax
import numpy as np

from pgjax.advantages.baselines import BASELINES, Fitted, Table
from pgjax.advantages.returns import RETURNS, Transition
from pgjax.oracle import enumeration
from pgjax.oracle import mdp as oracle_mdp
from pgjax.oracle.mdp import MDP
from pgjax.variance.estimators.score_functions import ScoreFunction


class World(NamedTuple):
    """The tables that a row's estimate depends on, float64."""

    mdp: MDP
    pi: np.ndarray  # [S, A] at the measured parameters
    behaviour: np.ndarray  # [S, A] of the actors
    value: np.ndarray  # [S] the learned critic
    scores: np.ndarray  # [S, A, P] d log pi / d theta


def moments(row: ScoreFunction, world: World, fitted: Fitted) -> enumeration.Projected | None:
    """Exact moments of one estimate of the row; None where no recursion gives them.

    No recursion gives them where episodes of a batch depend on each other, where PPO's clip looks at a return's sign
    off policy, for all_action one step ahead, and in environments that are too large for it.
    """
    off_policy = not np.array_equal(world.pi, world.behaviour)
    sampled = row.over_actions and row.critic == "learned"
    unknown = row.depends_on_batch or BASELINES[row.baseline].table is None
    if unknown or sampled or (row.surrogate == "ppo_clip" and off_policy):
        return None
    states, actions = world.pi.shape
    recursion = _Recursion(row, world, fitted)
    transitions = states**2 * actions
    if transitions * recursion.size**2 > 2e7 or recursion.horizon * transitions * recursion.size**3 > 2e10:
        return None  # a matrix for every transition: more than 160 MB, or minutes
    mean, second = enumeration.moments(world.mdp, world.behaviour, recursion.step, recursion.last)
    pick = recursion.output
    return enumeration.project(pick @ mean, pick @ second @ pick.T, world.scores)


class _Recursion:
    """z = (1, the numbers of the return, c) or, for the return of a whole episode, (1, G, c, G c, b c)."""

    def __init__(self, row: ScoreFunction, world: World, fitted: Fitted) -> None:
        self.row, self.world = row, world
        mdp, (s, a) = world.mdp, world.pi.shape
        self.pairs = np.eye(s * a).reshape(s, a, s * a)
        # An action that the actors never take has weight 0 in every mean over their actions.
        taken = world.behaviour > 0
        self.rho = np.where(taken, world.pi / np.where(taken, world.behaviour, 1.0), 0.0)
        self.exact = oracle_mdp.values(mdp, world.pi)
        self.horizon = len(self.exact.action_value)
        learned = np.broadcast_to(np.where(mdp.terminal, 0.0, world.value), (self.horizon + 1, s))
        self.value = self.exact.value if row.critic == "exact" else learned
        # `here` is the critic's value of the state that the agent is in, `value` of the one it enters: 0 if terminal.
        self.here = self.exact.value if row.critic == "exact" else np.broadcast_to(world.value, learned.shape)
        self.returns = RETURNS[row.returns]
        self.baseline = self._baseline(fitted)
        self.kept = self._rows(0).shape[-2]  # numbers of the return
        blocks = 3 if self.returns.whole else 1
        self.size = 1 + self.kept + blocks * s * a
        self.output = np.zeros((s * a, self.size))
        first = 1 + self.kept
        if self.returns.whole:
            self.output[:, first + s * a : first + 2 * s * a] = np.eye(s * a)
            self.output[:, first + 2 * s * a :] = -np.eye(s * a)
        else:
            self.output[:, first:] = np.eye(s * a)

    def _baseline(self, fitted: Fitted) -> np.ndarray:
        """b_t(s), [T, S]."""
        numbers = jax.tree.map(lambda x: np.asarray(x, np.float64), fitted)
        constant = numbers.mean if self.row.constant is None else self.row.constant
        table = BASELINES[self.row.baseline].table
        assert table is not None  # `moments` asks for rows with a table alone
        return np.zeros(self.here[:-1].shape) + np.asarray(table(Table(self.here[:-1], constant, numbers)))

    def _rows(self, t: int) -> np.ndarray:
        """The numbers of the return as rows over (1, those of the next step): see `Return.recursion`."""
        row, mdp = self.row, self.world.mdp
        ahead = np.where(mdp.terminal, 0.0, self.value[t + 1])  # [S'] of the state entered
        here, reward, rho = self.here[t][:, None, None], mdp.reward[:, :, None], self.rho[:, :, None]
        return self.returns.recursion(Transition(reward, here, ahead, rho, mdp.discount, row.n, row.lambda_))

    def last(self, terminated: bool) -> np.ndarray:
        """[S, K]: a truncated episode bootstraps from the state it entered, a terminated one from nothing."""
        z = np.zeros((len(self.world.pi), self.size))
        z[:, 0] = 1
        if not terminated and self.returns.ends_in_value:
            z[:, 1 : 1 + self.kept] = self.value[-1][:, None]
        return z

    def step(self, t: int) -> np.ndarray:
        """[S, A, S, K, K]"""
        row, (s, a) = self.row, self.world.pi.shape
        m = np.zeros((s, a, s, self.size, self.size))
        m[..., 0, 0] = 1
        rho, first = self.rho[:, :, None], 1 + self.kept
        m[..., 1:first, :first] = self._rows(t)
        weight = m[..., self.kept, :].copy()  # the step's weight as a row over z_{t+1}
        if row.surrogate == "is_decision":
            m[..., self.kept, :] *= rho[..., None]
        self._counts(m, weight, t, self.world.mdp.discount if row.gamma_t and not self.returns.whole else 1.0)
        if row.surrogate == "is_trajectory":
            m *= rho[..., None, None]
        return m

    def _counts(self, m: np.ndarray, weight: np.ndarray, t: int, carry: float) -> None:
        """The rows of c."""
        row, (s, a) = self.row, self.world.pi.shape
        first, size = 1 + self.kept, s * a
        at = slice(first, first + size)
        pairs = self.pairs[:, :, None]  # [S, A, 1, SA]
        rho = self.rho[:, :, None, None]
        scale = rho if row.surrogate in ("ratio", "ppo_clip", "kl", "is_decision") else 1.0
        later = rho[..., None] if row.surrogate == "is_decision" else np.ones(())
        if self.returns.whole:
            # c = e + c'; G c = (e + c')(r + gamma G'); b c = b e + (b c)'.
            times, bases = slice(first + size, first + 2 * size), slice(first + 2 * size, None)
            reward, gamma = self.world.mdp.reward[:, :, None, None, None], self.world.mdp.discount
            m[..., at, 0] = scale * pairs
            m[..., at, at] = np.eye(size)
            m[..., times, :2] = (scale * pairs)[..., None] * weight[..., None, :2]
            m[..., times, at] = reward * np.eye(size)
            m[..., times, times] = gamma * np.eye(size)
            m[..., bases, 0] = scale * pairs * self.baseline[t][:, None, None, None]
            if row.surrogate == "kl":
                m[..., bases, 0] += row.kl_coef * (rho - 1) * pairs
            m[..., bases, bases] = np.eye(size)
            return
        if row.over_actions:
            own = (self.world.pi * self.exact.action_value[t])[..., None] * self.pairs
            m[..., at, 0] = np.sum(own, axis=1)[:, None, None, :]
        else:
            m[..., at, :] = (scale * pairs)[..., None] * weight[..., None, :]
            m[..., at, 0] -= scale * pairs * self.baseline[t][:, None, None, None]
            if row.surrogate == "kl":
                m[..., at, 0] -= row.kl_coef * (rho - 1) * pairs
        m[..., at, at] += carry * np.eye(size) * later

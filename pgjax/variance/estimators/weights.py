"""The weight that a row of the grid gives the score of each step of whole episodes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgjax.advantages.baselines import BASELINES, Fitted, Sample
from pgjax.advantages.returns import RETURNS, Episodes
from pgjax.envs.observations import state_index
from pgjax.numerics.masked import normalized
from pgjax.types import Array, Evaluation, Trajectory
from pgjax.variance.estimators.score_functions import ScoreFunction


class Tables(NamedTuple):
    """Exact values of an enumerable environment at the measured parameters, float32."""

    value: Array  # [T + 1, S]
    action_value: Array  # [T, S, A]


def critic(row: ScoreFunction, trajectory: Trajectory, now: Evaluation, tables: Tables | None) -> Evaluation:
    """`now` with the values that the row uses: the learned ones, or V_t(s) from the tables."""
    if row.critic == "learned":
        return now
    assert tables is not None  # `checks.possible` refuses exact critics without tables
    time, obs, following = trajectory.time, state_index(trajectory.obs), state_index(trajectory.next_obs)
    return now._replace(value=tables.value[time, obs], next_value=tables.value[time + 1, following])


def returned(row: ScoreFunction, trajectory: Trajectory, now: Evaluation, discount: Array) -> Array:
    """The return of each action, before any baseline, [T, B]."""
    if row.surrogate == "is_decision":
        # G_t = r_t + gamma rho_{t+1} G_{t+1}
        log_rho = (now.log_prob - trajectory.log_prob) * trajectory.mask
        following = jnp.concatenate([log_rho[1:], jnp.zeros_like(log_rho[:1])])
        discount = discount * jnp.exp(following)
    return RETURNS[row.returns].value(Episodes(trajectory, now, discount, row.n, row.lambda_))


def weights(
    row: ScoreFunction, trajectory: Trajectory, now: Evaluation, fitted: Fitted, discount: Array, clip: bool = True
) -> Array:
    """The weight of each step's score in the estimate, [T, B]; 0 after an episode's end.

    Args:
      trajectory: whole episodes [T, B] from their start; B episodes are one estimate.
      now: at the parameters whose gradient it is, with the values of the row's critic.
      clip: false leaves PPO's clip out, to count the steps that it drops.
    """
    mask, time = trajectory.mask, trajectory.time
    followed = returned(row, trajectory, now, discount)
    advantage = (followed - _baseline(row, followed, trajectory, now, fitted)) * mask
    if row.normalize == "mean":
        advantage = (advantage - jnp.sum(advantage) / jnp.maximum(jnp.sum(mask), 1.0)) * mask
    elif row.normalize == "std":
        advantage = normalized(advantage, mask, jnp.abs(followed)) * mask
    factor = discount**time if row.gamma_t and not RETURNS[row.returns].whole else jnp.ones_like(advantage)

    log_rho = (now.log_prob - trajectory.log_prob) * mask
    rho = jnp.exp(log_rho)
    if row.surrogate == "is_trajectory":
        factor = factor * jnp.exp(jnp.sum(log_rho, axis=0, keepdims=True))
    elif row.surrogate == "is_decision":
        factor = factor * jnp.exp(jnp.cumsum(log_rho, axis=0))
    elif row.surrogate in ("ratio", "ppo_clip"):
        factor = factor * rho
        if row.surrogate == "ppo_clip" and clip:
            factor = jnp.where(clipped(row, advantage, rho), 0.0, factor)
    weight = factor * advantage
    if row.surrogate == "kl":
        # The penalty rho - 1 - log rho has the derivative rho - 1 by log rho.
        weight = factor * (rho * advantage - row.kl_coef * (rho - 1))
    return weight * mask


def clipped(row: ScoreFunction, advantage: Array, rho: Array) -> Array:
    """Where PPO's minimum is the clipped constant, which has no gradient (Schulman et al. 2017, eq. 7)."""
    high, low = 1 + row.clip_eps, 1 - row.clip_eps
    return ((advantage > 0) & (rho > high)) | ((advantage < 0) & (rho < low))


def _baseline(row: ScoreFunction, own: Array, trajectory: Trajectory, now: Evaluation, fitted: Fitted) -> Array:
    """The row's baseline of the returns `own` [T, B]."""
    steps = fitted.steps + jnp.sum(trajectory.mask)
    so_far = (fitted.mean * fitted.steps + jnp.sum(own * trajectory.mask)) / jnp.maximum(steps, 1.0)
    constant = fitted.mean if row.constant is None else row.constant
    sample = Sample(own, RETURNS[row.returns].whole, trajectory, now, constant, so_far, fitted)
    return BASELINES[row.baseline].value(sample)


def expected_values(policy: Any, params: Any, trajectory: Trajectory, action_value: Array) -> Array:
    """sum_a pi(a | s_t) Q(s_t, a), [T, B], which all_action differentiates with Q [T, B, A] held fixed."""
    dist = policy.evaluate(params, trajectory).dist
    return jnp.sum(jnp.exp(dist.log_probs()) * jax.lax.stop_gradient(action_value), axis=-1)

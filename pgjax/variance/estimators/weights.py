"""A row of the grid and whole episodes in; the weight of each step's score out."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgjax.advantages.baselines import mean_of_others
from pgjax.numerics import returns
from pgjax.numerics.masked import normalized
from pgjax.types import Array, Evaluation, Trajectory
from pgjax.variance.estimators.score_functions import ScoreFunction


class Fitted(NamedTuple):
    """Baselines of one row, from a pilot that shares no episode with what is measured."""

    mean: Array  # [] mean return of a step
    count: Array  # [] steps of the pilot
    by_time: Array  # [T] mean return at t
    optimal: Array  # []
    optimal_time: Array  # [T]
    optimal_state: Array  # [S], or [1] where states are no table

    @classmethod
    def none(cls) -> "Fitted":
        """For rows that take nothing from a pilot."""
        return cls(*[jnp.zeros(())] * len(cls._fields))


class Tables(NamedTuple):
    """Exact values of an enumerable world at the measured parameters, float32."""

    value: Array  # [T + 1, S]
    action_value: Array  # [T, S, A]


def critic(row: ScoreFunction, trajectory: Trajectory, now: Evaluation, tables: Tables | None) -> Evaluation:
    """`now` with the values that the row uses: the learned ones, or V_t(s) from the tables."""
    if row.critic == "learned":
        return now
    time, obs, following = trajectory.time, trajectory.obs, trajectory.next_obs
    return now._replace(value=tables.value[time, obs], next_value=tables.value[time + 1, following])


def returned(row: ScoreFunction, trajectory: Trajectory, now: Evaluation, discount: Array) -> Array:
    """What follows each action, before any baseline, [T, B]."""
    ends = (trajectory.terminated, trajectory.truncated)
    log_rho = (now.log_prob - trajectory.log_prob) * trajectory.mask
    if row.returns in ("full", "to_go"):
        if row.surrogate == "is_decision":
            # G_t = r_t + gamma rho_{t+1} G_{t+1}
            following = jnp.concatenate([log_rho[1:], jnp.zeros_like(log_rho[:1])])
            discount = discount * jnp.exp(following)
        to_go = returns.discounted_return(trajectory.reward, *ends, discount)
        return jnp.broadcast_to(to_go[:1], to_go.shape) if row.returns == "full" else to_go
    if row.returns == "n_step":
        return returns.n_step_return(trajectory.reward, now.next_value, *ends, discount, row.n)
    if row.returns == "lambda":
        return returns.lambda_return(trajectory.reward, now.next_value, *ends, discount, row.lambda_)
    if row.returns == "gae":
        return returns.gae(trajectory.reward, now.value, now.next_value, *ends, discount, row.lambda_)
    if row.returns == "v_trace":
        return returns.v_trace(log_rho, trajectory.reward, now.value, now.next_value, *ends, discount)[1]
    return jnp.ones_like(trajectory.reward)  # all_action: Q is in what is differentiated


def weights(
    row: ScoreFunction, trajectory: Trajectory, now: Evaluation, fitted: Fitted, discount: Array, clip: bool = True
) -> Array:
    """The weight of each step's score in the estimate, [T, B]; 0 behind an episode's end.

    Args:
      trajectory: whole episodes [T, B] from their start; B episodes are one estimate.
      now: at the parameters whose gradient it is, with the values of the row's critic.
      clip: false leaves PPO's clip out, to count what it drops.
    """
    mask, time = trajectory.mask, trajectory.time
    followed = returned(row, trajectory, now, discount)
    advantage = (followed - _baseline(row, trajectory, now, fitted, discount)) * mask
    if row.normalize == "mean":
        advantage = (advantage - jnp.sum(advantage) / jnp.maximum(jnp.sum(mask), 1.0)) * mask
    elif row.normalize == "std":
        advantage = normalized(advantage, mask, jnp.abs(followed)) * mask
    factor = discount**time if row.gamma_t and row.returns != "full" else jnp.ones_like(advantage)

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


def _baseline(row: ScoreFunction, trajectory: Trajectory, now: Evaluation, fitted: Fitted, discount: Array) -> Array:
    mask = trajectory.mask
    zero = jnp.zeros_like(mask)
    if row.baseline == "none":
        return zero
    if row.baseline == "constant":
        return zero + (fitted.mean if row.constant is None else row.constant)
    if row.baseline == "value":
        return now.value
    if row.baseline == "optimal_state":
        return fitted.optimal_state[trajectory.obs]
    if row.baseline in ("time", "optimal_time"):
        return (fitted.by_time if row.baseline == "time" else fitted.optimal_time)[trajectory.time]
    if row.baseline == "optimal":
        return zero + fitted.optimal
    own = returned(row, trajectory, now, discount)
    if row.baseline == "running_mean":
        count = fitted.count + jnp.sum(mask)
        return zero + (fitted.mean * fitted.count + jnp.sum(own * mask)) / jnp.maximum(count, 1.0)
    if row.baseline == "leave_one_out":
        # Episodes that have ended count as 0, except in the return of the whole episode.
        return mean_of_others(own if row.returns == "full" else own * mask)
    raise ValueError(f"baseline={row.baseline!r} has no weights; give it a branch in variance/estimators/weights.py")


def expected_values(policy: Any, params: Any, trajectory: Trajectory, action_value: Array) -> Array:
    """sum_a pi(a | s_t) Q(s_t, a), [T, B]: what all_action differentiates, Q [T, B, A] held fixed."""
    dist = policy.evaluate(params, trajectory).dist
    return jnp.sum(jnp.exp(dist.log_probs()) * jax.lax.stop_gradient(action_value), axis=-1)

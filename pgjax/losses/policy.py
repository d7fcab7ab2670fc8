"""What the policy says now and the batch it learns from in; one loss per step out, never a mean.

Each function here is a LossFn: its keyword-only arguments are its hyperparameters. The reduction is
chosen in `estimators.surrogate`.
"""

import math
from typing import Annotated

import jax
import jax.numpy as jnp

from pgjax.declarations import Role
from pgjax.hyperparameters import Bound, NonNegative, Positive
from pgjax.losses.contract import by_step
from pgjax.types import Array, Batch, Evaluation


@by_step
def policy_gradient(
    now: Evaluation,
    batch: Batch,
    *,
    importance: Annotated[bool, Role.IMPORTANCE] = False,
    reevaluate: Annotated[bool, Role.REEVALUATE] = False,
) -> tuple[Array, dict[str, Array]]:
    """-A_t log pi(a_t | s_t): its gradient is REINFORCE's (Williams 1992, theorem 1).

    Args:
      importance: multiply by pi(a_t | s_t) / b(a_t | s_t), b being the policy that acted. It is the action's
        share of the correction for `epsilon`; what led to s_t and what followed are the advantage's share,
        which `monte_carlo(importance=True)` has. Together the gradient is that of pi; learners refuse one
        without the other, by `Role.IMPORTANCE`.
      reevaluate: A_t is the target minus the critic's value as it is now, not when the batch was collected:
        with update="step", REINFORCE with baseline as the box of Sutton & Barto (2018, sec. 13.4) has it.
        What the advantage has besides (gamma^t, ratios, a normalisation) would be lost; learners refuse it.
    """
    advantage = batch.target - jax.lax.stop_gradient(now.value) if reevaluate else batch.advantage
    if importance:
        ratio = jnp.exp(now.log_prob - batch.trajectory.log_prob)
        advantage = jax.lax.stop_gradient(ratio) * advantage
    return -now.log_prob * advantage, {}


@by_step
def importance_weighted(now: Evaluation, batch: Batch) -> tuple[Array, dict[str, Array]]:
    """-rho_t A_t, rho the ratio of the policy as it is to that which acted (Schulman et al. 2015, eq. 14).

    Where both are the same its gradient is that of `policy_gradient`. Nothing bounds rho here: that is for a step
    in a trust region, such as `estimators.trust_region_step`. The metric `kl` is the estimate that `ppo_clip` has.
    """
    log_ratio = now.log_prob - batch.trajectory.log_prob
    return -jnp.exp(log_ratio) * batch.advantage, {"kl": jnp.expm1(log_ratio) - log_ratio}


@by_step
def ppo_clip(
    now: Evaluation,
    batch: Batch,
    *,
    clip_eps: Bound = 0.2,
    clip_high: Bound = 0.0,
    kl_coef: Annotated[NonNegative, Role.KL_COEF] = 0.0,
) -> tuple[Array, dict[str, Array]]:
    """Clipped surrogate (Schulman et al. 2017, eq. 7), with an optional KL penalty (their eq. 8).

    -min(rho A, clip(rho, 1 - eps, 1 + eps) A) + kl_coef KL(old || new), rho the probability ratio.
    The KL is Schulman's estimate rho - 1 - log rho, never negative. clip_eps = inf turns clipping off.

    Args:
      clip_high: the eps of the upper bound alone, 0 the same as `clip_eps`. Where it is larger, unlikely actions can
        become likely sooner: clip-higher (Yu et al. 2025, DAPO, eq. 10), who take .28 beside .2.
    """
    log_ratio = now.log_prob - batch.trajectory.log_prob
    ratio = jnp.exp(log_ratio)
    kl = jnp.expm1(log_ratio) - log_ratio
    clipped, outside = clipped_surrogate(ratio, batch.advantage, clip_eps, clip_high)
    return -clipped + kl_coef * kl, {"kl": kl, "clip_fraction": outside}


def clipped_surrogate(
    ratio: Array, advantage: Array, clip_eps: float | Array, clip_high: float | Array
) -> tuple[Array, Array]:
    """(min(rho A, clip(rho, 1 - clip_eps, 1 + high) A), 1 where rho is outside and else 0), each [T, B] or [N].

    `high` is `clip_high`, or `clip_eps` where that is 0.
    """
    high = jnp.where(clip_high > 0, clip_high, clip_eps)
    clipped = jnp.clip(ratio, 1 - clip_eps, 1 + high)
    outside = (ratio - 1 > high) | (1 - ratio > clip_eps)
    return jnp.minimum(ratio * advantage, clipped * advantage), outside.astype(ratio.dtype)


@by_step
def cispo(
    now: Evaluation, batch: Batch, *, clip_low: Bound = math.inf, clip_high: Bound = 1.0
) -> tuple[Array, dict[str, Array]]:
    """-clip(rho, 1 - clip_low, 1 + clip_high) A log pi(a_t | s_t), no gradient flowing through rho.

    CISPO (MiniMax 2025, MiniMax-M1, eq. 4 and 5): the clip bounds the weight of a score, where PPO's takes the whole
    gradient of the step away. Theirs has no lower bound. It is meant for the mean over all steps, `reduce="step"`.
    """
    log_ratio = now.log_prob - batch.trajectory.log_prob
    ratio = jnp.exp(log_ratio)
    weight = jax.lax.stop_gradient(jnp.clip(ratio, 1 - clip_low, 1 + clip_high))
    outside = (ratio - 1 > clip_high) | (1 - ratio > clip_low)
    metrics = {"kl": jnp.expm1(log_ratio) - log_ratio, "clip_fraction": outside.astype(ratio.dtype)}
    return -weight * batch.advantage * now.log_prob, metrics


@by_step
def spo(now: Evaluation, batch: Batch, *, clip_eps: Positive = 0.2) -> tuple[Array, dict[str, Array]]:
    """-(rho A - |A| / (2 eps) (rho - 1)^2), in place of PPO's clip (Xie et al. 2024, Simple policy optimization).

    It is least at rho = 1 + sign(A) eps, an end of PPO's range, and unlike PPO's it pulls a ratio beyond that back.
    """
    log_ratio = now.log_prob - batch.trajectory.log_prob
    ratio = jnp.exp(log_ratio)
    penalty = jnp.abs(batch.advantage) / (2 * clip_eps) * (ratio - 1) ** 2
    return -(ratio * batch.advantage - penalty), {"kl": jnp.expm1(log_ratio) - log_ratio}


@by_step
def awr(
    now: Evaluation, batch: Batch, *, beta: Positive = 1.0, max_weight: Positive = 20.0
) -> tuple[Array, dict[str, Array]]:
    """Advantage-weighted regression (Peng et al. 2019): -min(exp(A_t / beta), max_weight) log pi(a_t | s_t).

    It is supervised learning of the actions taken, each weighed by its exponentiated advantage, so the policy that
    acted needs no correction, however old it is. `algorithms.recent` has the paper's memory of older batches.

    Args:
      beta: the temperature; a smaller one imitates the best actions alone.
      max_weight: the paper's omega_max, which keeps single actions from ruling the batch.
    """
    weight = jnp.minimum(jnp.exp(batch.advantage / beta), max_weight)
    return -weight * now.log_prob, {"weight": weight}

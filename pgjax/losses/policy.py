"""What the policy says now and the batch it learns from in; one loss per step out, never a mean.

Each function here is a LossFn: its keyword-only arguments are its hyperparameters. The reduction is
chosen in `estimators.surrogate`.
"""

from typing import Annotated

import jax
import jax.numpy as jnp

from pgjax.declarations import Role
from pgjax.hyperparameters import Bound, NonNegative
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
    now: Evaluation, batch: Batch, *, clip_eps: Bound = 0.2, kl_coef: Annotated[NonNegative, Role.KL_COEF] = 0.0
) -> tuple[Array, dict[str, Array]]:
    """Clipped surrogate (Schulman et al. 2017, eq. 7), with an optional KL penalty (their eq. 8).

    -min(rho A, clip(rho, 1 - eps, 1 + eps) A) + kl_coef KL(old || new), rho the probability ratio.
    The KL is Schulman's estimate rho - 1 - log rho, never negative. clip_eps = inf turns clipping off.
    """
    log_ratio = now.log_prob - batch.trajectory.log_prob
    ratio = jnp.exp(log_ratio)
    clipped = jnp.clip(ratio, 1 - clip_eps, 1 + clip_eps)
    kl = jnp.expm1(log_ratio) - log_ratio
    per_step = -jnp.minimum(ratio * batch.advantage, clipped * batch.advantage) + kl_coef * kl
    return per_step, {"kl": kl, "clip_fraction": (jnp.abs(ratio - 1) > clip_eps).astype(kl.dtype)}

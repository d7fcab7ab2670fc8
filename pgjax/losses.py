"""What the policy says now and the batch it learns from in; one loss per step out, never a mean.

Each function here is a LossFn: its keyword-only arguments are its hyperparameters. The reduction is
chosen in `estimators.surrogate`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from pgjax.plugs import declare, hyperparameters, name_of
from pgjax.returns import taken
from pgjax.types import Array, Batch, Evaluation, LossFn


def by_step(loss: LossFn) -> LossFn:
    """Declare that a step's loss and metrics depend on that step alone: a large batch may be taken in pieces.

    On a CPU the gradient then takes two thirds of the time. Without it a loss is given its whole batch at once.
    """
    loss.by_step = loss  # itself, since functools.wraps copies attributes
    return loss


def is_by_step(loss: LossFn) -> bool:
    """Whether the loss was declared so, whatever hyperparameters were bound since."""
    while isinstance(loss, functools.partial) and getattr(loss, "by_step", None) is not loss:
        loss = loss.func
    return getattr(loss, "by_step", None) is loss


@by_step
def policy_gradient(
    now: Evaluation, batch: Batch, *, importance: bool = False, reevaluate: bool = False
) -> tuple[Array, dict[str, Array]]:
    """-A_t log pi(a_t | s_t): its gradient is REINFORCE's (Williams 1992, theorem 1).

    Args:
      importance: multiply by pi(a_t | s_t) / b(a_t | s_t), b being the policy that acted. It is the action's
        share of the correction for `epsilon`; what led to s_t and what followed are the advantage's share,
        which `monte_carlo(importance=True)` has. Together the gradient is that of pi; learners refuse one
        without the other, by the hyperparameters that an advantage declares (see `plugs.declare` for wrappers).
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
    in a trust region, such as `trust.trust_region_step`. The metric `kl` is the estimate that `ppo_clip` has.
    """
    log_ratio = now.log_prob - batch.trajectory.log_prob
    return -jnp.exp(log_ratio) * batch.advantage, {"kl": jnp.expm1(log_ratio) - log_ratio}


@by_step
def ppo_clip(
    now: Evaluation, batch: Batch, *, clip_eps: float = 0.2, kl_coef: float = 0.0
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


@by_step
def value_error(now: Evaluation, batch: Batch, *, value_clip: float = jnp.inf) -> tuple[Array, dict[str, Array]]:
    """(V - target)^2 / 2, or the worse of it and the same for V kept within value_clip of the old value.

    The clipped form is that of OpenAI's baselines, not of the PPO paper; inf turns it off.
    """
    moved = jnp.clip(now.value - batch.value, -value_clip, value_clip)
    kept = jnp.where(jnp.isinf(value_clip), now.value, batch.value + moved)
    error = 0.5 * jnp.maximum((now.value - batch.target) ** 2, (kept - batch.target) ** 2)
    return error, {"value_loss": error}


@by_step
def action_value_error(now: Evaluation, batch: Batch) -> tuple[Array, dict[str, Array]]:
    """(q(s_t, a_t) - target)^2 / 2, for a critic of action values."""
    if isinstance(now.action_value, tuple):
        raise ValueError("action_value_error needs a critic of action values; set config.critic='action_value'")
    error = 0.5 * (taken(now.action_value, batch.trajectory.action) - batch.target) ** 2
    return error, {"value_loss": error}


def actor_critic(policy_loss: LossFn, critic_loss: LossFn = value_error) -> LossFn:
    """policy_loss + value_coef critic_loss - entropy_coef entropy, per step (Mnih et al. 2016, sec. 4).

    The hyperparameters of both losses are those of the result too.
    """

    def loss(now, batch, *, value_coef: float = 0.5, entropy_coef: float = 0.0, **hypers):
        own = {name: hypers[name] for name in hypers if name not in critic}
        # Each is checked by itself, where a scalar can still be told from one loss per step.
        shape = now.log_prob.shape
        actor, metrics = checked(policy_loss, policy_loss(now, batch, **own), shape)
        others = {name: hypers[name] for name in hypers if name in critic}
        value, more = checked(critic_loss, critic_loss(now, batch, **others), shape)
        per_step = actor + value_coef * value - entropy_coef * now.entropy
        return per_step, {**metrics, **more, "entropy": now.entropy}

    critic = hyperparameters(critic_loss)
    loss.__name__ = name_of(policy_loss)
    loss = declare(loss, policy_loss, critic_loss)
    return by_step(loss) if is_by_step(policy_loss) and is_by_step(critic_loss) else loss


# Names that the pipeline gives its own metrics, and the axes of the dataset.
RESERVED = ("loss", "grad_norm", "explained_variance", "episode_return", "episode_length", "env_steps", "finite")
RESERVED += ("seed", "update", "episode", "setting", "stopped", "stop", "gradient_steps", "penalty", "kl_to_reference")


def checked(loss: LossFn, output: Any, shape: tuple[int, ...]) -> tuple[Array, dict[str, Array]]:
    """What a loss returned, checked at trace time against the shape of the batch, [T, B] or [N]."""
    name, axes = name_of(loss), "[T, B]" if len(shape) == 2 else "[N]"
    if not (isinstance(output, tuple) and len(output) == 2 and isinstance(output[1], dict)):
        raise TypeError(
            f"loss {name!r} returned {type(output).__name__}, expected (one loss per step, dict of metrics)"
        )
    per_step, metrics = output
    if jnp.shape(per_step) != shape:
        raise ValueError(
            f"loss {name!r} returned shape {jnp.shape(per_step)}, expected one loss per step, {axes} = {shape}"
        )
    if not jnp.issubdtype(jnp.result_type(per_step), jnp.floating):
        raise TypeError(f"loss {name!r} returned {jnp.result_type(per_step)} numbers, expected real ones")
    for metric, value in metrics.items():
        if metric in RESERVED:
            raise ValueError(f"loss {name!r}: metric {metric!r} is a name of the pipeline's own; rename it")
        if isinstance(value, str) or jnp.shape(value) not in ((), shape):
            what = type(value).__name__ if isinstance(value, str) else f"shape {jnp.shape(value)}"
            raise ValueError(
                f"loss {name!r}: metric {metric!r} has {what}, expected a scalar or one value per step, {shape}"
            )
    return per_step, metrics


LOSSES = {
    "policy_gradient": policy_gradient,
    "importance_weighted": importance_weighted,
    "ppo_clip": ppo_clip,
    "value_error": value_error,
    "action_value_error": action_value_error,
}

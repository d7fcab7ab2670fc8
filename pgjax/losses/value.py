"""Losses of critics: squared errors of values and of action values."""

from typing import Annotated

import jax.numpy as jnp

from pgjax.hyperparameters import LEAST, Bound, Range
from pgjax.losses.contract import by_step
from pgjax.numerics.returns import taken
from pgjax.numerics.value_classes import Ensemble, HLGauss, TwoHot, cross_entropy
from pgjax.types import Array, Batch, Evaluation


def q_error(
    now: Evaluation, batch: Batch, *, huber_delta: Annotated[float, Range(LEAST, jnp.inf)] = jnp.inf
) -> tuple[Array, dict[str, Array]]:
    """(q(s_t, a_t) - target)^2 / 2 (Mnih et al. 2015, eq. 2), or the Huber loss where `huber_delta` is finite.

    Its derivative is the error clipped to [-huber_delta, huber_delta]: theirs is 1, with rewards clipped too (Methods).
    With larger rewards that fits the median of the targets, which the few that ended have no say in: CartPole diverged.
    """
    if isinstance(now.action_value, tuple):
        raise ValueError("q_error needs a critic of action values; set config.critic='action_value'")
    q = taken(now.action_value, batch.trajectory.action)
    error = q - batch.target
    clipped = jnp.clip(error, -huber_delta, huber_delta)
    return clipped * (error - 0.5 * clipped), {"td_error": jnp.abs(error), "q": q}


@by_step
def value_error(now: Evaluation, batch: Batch, *, value_clip: Bound = jnp.inf) -> tuple[Array, dict[str, Array]]:
    """(V - target)^2 / 2, or the worse of it and the same for V kept within value_clip of the old value.

    The clipped form is that of OpenAI's baselines, not of the PPO paper; inf turns it off. A critic of classes has its
    cross-entropy to the target instead, and one of an ensemble the mean of each one's error; neither is clipped.
    """
    if isinstance(now.extra, (TwoHot, HLGauss)):
        loss = cross_entropy(now.extra, batch.target)
        return loss, {"value_loss": loss}
    if isinstance(now.extra, Ensemble):
        loss = 0.5 * jnp.mean((now.extra.values - batch.target[..., None]) ** 2, axis=-1)
        return loss, {"value_loss": loss}
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

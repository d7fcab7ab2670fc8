"""A penalty on the distance from a reference policy, added to any loss."""

from typing import Annotated, Any, overload

import jax
import jax.numpy as jnp

from pgjax.declarations import Role
from pgjax.hyperparameters import NonNegative, name_of
from pgjax.losses.contract import checked_loss
from pgjax.numerics.kl import kl_estimate
from pgjax.running import around, running
from pgjax.types import Array, Batch, Evaluation, LossFn, PyTree, Running, Trajectory


@overload
def anchored(policy_loss: LossFn) -> LossFn: ...


@overload
def anchored(policy_loss: Running) -> Running: ...


def anchored(policy_loss: LossFn | Running) -> Any:
    """The same plus reference_coef times an estimate of the KL to the reference (Shao et al. 2024, eq. 4).

    On policy, only k2's gradient has the mean of the KL's own, and that per token, not through the tokens that follow:
    k1's mean is zero, k3's is that of the KL the other way round.
    """
    policy = running(policy_loss)

    def loss(
        states: tuple[PyTree],
        now: Evaluation,
        batch: Batch,
        *,
        reference_coef: Annotated[NonNegative, Role.REFERENCE] = 0.0,
        reference_kl: str = "k3",
        **hypers: Any,
    ) -> tuple[tuple[PyTree], tuple[Array, dict[str, Array]]]:
        state, output = policy.apply(states[0], now, batch, **hypers)
        per_step, metrics = checked_loss(policy_loss, output, now.log_prob.shape)
        reference = reference_log_prob(batch.trajectory, loss)
        # Behind an end the reference may be anything, and a gradient would spread it.
        reference = jnp.where(batch.trajectory.mask > 0, reference, jax.lax.stop_gradient(now.log_prob))
        kl = kl_estimate(now.log_prob, reference, reference_kl)
        return (state,), (per_step + reference_coef * kl, metrics)

    loss.__name__ = name_of(policy_loss)
    return around(loss, policy_loss, by_step=True)


def reference_log_prob(trajectory: Trajectory, plug: Any) -> Array:
    """The trajectory's log-probabilities under the reference policy; ValueError where it has none."""
    if isinstance(trajectory.reference, tuple):
        raise ValueError(f"{name_of(plug)}: the trajectory has no log-probabilities of a reference; fill `reference`")
    return jax.lax.stop_gradient(trajectory.reference)

"""Rewards less a penalty for the distance from a reference policy, given to any advantage."""

from typing import Annotated, Any

import jax.numpy as jnp

from pgjax.declarations import Role
from pgjax.hyperparameters import NonNegative, declare, name_of
from pgjax.losses.reference_kl import reference_log_prob
from pgjax.numerics.kl import kl_estimate
from pgjax.types import AdvantageFn, Running


def penalised(advantage: AdvantageFn | Running) -> AdvantageFn | Running:
    """The same of the reward r_t - reference_penalty KL_t, an estimate of the KL from what acted to the reference.

    With k1 its sum over an episode has the mean KL(pi || reference) of whole sequences, and its gradient is exact
    (Ziegler et al. 2019, eq. 2).
    """
    inner = advantage.apply if isinstance(advantage, Running) else advantage

    def apply(
        *arguments: Any,
        reference_penalty: Annotated[NonNegative, Role.REFERENCE] = 0.0,
        reference_kl: str = "k1",
        **hypers: Any,
    ) -> Any:
        *state, trajectory, now = arguments
        kl = kl_estimate(trajectory.log_prob, reference_log_prob(trajectory, apply), reference_kl)
        reward = trajectory.reward - reference_penalty * jnp.where(trajectory.mask > 0, kl, 0.0)
        return inner(*state, trajectory._replace(reward=reward), now, **hypers)

    apply.__name__ = name_of(advantage)
    declare(apply, advantage)
    return advantage._replace(apply=apply) if isinstance(advantage, Running) else apply

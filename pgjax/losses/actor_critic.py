"""The sum of a policy loss, a weighted critic loss and an entropy bonus."""

from typing import Any

from pgjax.hyperparameters import Finite, NonNegative, declare, hyperparameters, name_of
from pgjax.losses.contract import checked_loss
from pgjax.losses.value import value_error
from pgjax.types import Array, Batch, Evaluation, LossFn


def actor_critic(policy_loss: LossFn, critic_loss: LossFn = value_error) -> LossFn:
    """policy_loss + value_coef critic_loss - entropy_coef entropy, per step (Mnih et al. 2016, sec. 4).

    The hyperparameters of both losses are those of the result too.
    """

    def loss(
        now: Evaluation, batch: Batch, *, value_coef: NonNegative = 0.5, entropy_coef: Finite = 0.0, **hypers: Any
    ) -> tuple[Array, dict[str, Array]]:
        own = {name: hypers[name] for name in hypers if name not in critic}
        # Each is checked by itself, where a scalar can still be told from one loss per step.
        shape = now.log_prob.shape
        actor, metrics = checked_loss(policy_loss, policy_loss(now, batch, **own), shape)
        others = {name: hypers[name] for name in hypers if name in critic}
        value, more = checked_loss(critic_loss, critic_loss(now, batch, **others), shape)
        per_step = actor + value_coef * value - entropy_coef * now.entropy
        return per_step, {**metrics, **more, "entropy": now.entropy}

    critic = hyperparameters(critic_loss)
    loss.__name__ = name_of(policy_loss)
    return declare(loss, policy_loss, critic_loss, by_step=True)


def with_entropy(loss: LossFn) -> LossFn:
    """loss - entropy_coef entropy, per step: `losses.actor_critic` without a critic."""

    def actor(
        now: Evaluation, batch: Batch, *, entropy_coef: Finite = 0.0, **hypers: Any
    ) -> tuple[Array, dict[str, Array]]:
        per_step, metrics = checked_loss(loss, loss(now, batch, **hypers), now.log_prob.shape)
        return per_step - entropy_coef * now.entropy, {**metrics, "entropy": now.entropy}

    actor.__name__ = name_of(loss)
    return declare(actor, loss, by_step=True)


def weighted_critic(critic_loss: LossFn) -> LossFn:
    """value_coef times the critic's loss, per step."""

    def critic(
        now: Evaluation, batch: Batch, *, value_coef: NonNegative = 0.5, **hypers: Any
    ) -> tuple[Array, dict[str, Array]]:
        per_step, metrics = checked_loss(critic_loss, critic_loss(now, batch, **hypers), now.log_prob.shape)
        return value_coef * per_step, metrics

    critic.__name__ = name_of(critic_loss)
    return declare(critic, critic_loss, by_step=True)

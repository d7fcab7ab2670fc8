"""The sum of a policy loss, a weighted critic loss and an entropy bonus."""

from typing import Any, overload

from pgjax.hyperparameters import Finite, NonNegative, declare, hyperparameters, name_of
from pgjax.losses.contract import checked_loss
from pgjax.losses.value import value_error
from pgjax.plugs import check_plug
from pgjax.running import around, running
from pgjax.types import Array, Batch, Evaluation, LossFn, PyTree, Running

Output = tuple[tuple[PyTree, ...], tuple[Array, dict[str, Array]]]


@overload
def actor_critic(policy_loss: LossFn, critic_loss: LossFn = value_error) -> LossFn: ...


@overload
def actor_critic(policy_loss: LossFn | Running, critic_loss: LossFn | Running = value_error) -> LossFn | Running: ...


def actor_critic(policy_loss: LossFn | Running, critic_loss: LossFn | Running = value_error) -> Any:
    """policy_loss + value_coef critic_loss - entropy_coef entropy, per step (Mnih et al. 2016, sec. 4).

    The hyperparameters of both losses are those of the result too, which remembers if one of them does.
    """
    check_plug("loss", policy_loss)
    check_plug("loss", critic_loss)
    policy, critic, named = running(policy_loss), running(critic_loss), hyperparameters(critic_loss)

    def loss(
        states: tuple[PyTree, ...],
        now: Evaluation,
        batch: Batch,
        *,
        value_coef: NonNegative = 0.5,
        entropy_coef: Finite = 0.0,
        **hypers: Any,
    ) -> Output:
        own = {name: hypers[name] for name in hypers if name not in named}
        others = {name: hypers[name] for name in hypers if name in named}
        # Each is checked by itself, where a scalar can still be told from one loss per step.
        shape = now.log_prob.shape
        first, output = policy.apply(states[0], now, batch, **own)
        actor, metrics = checked_loss(policy_loss, output, shape)
        second, output = critic.apply(states[1], now, batch, **others)
        value, more = checked_loss(critic_loss, output, shape)
        per_step = actor + value_coef * value - entropy_coef * now.entropy
        return (first, second), (per_step, {**metrics, **more, "entropy": now.entropy})

    loss.__name__ = name_of(policy_loss)
    return around(loss, policy_loss, critic_loss, by_step=True)


def with_entropy(loss: LossFn) -> LossFn:
    """loss - entropy_coef entropy, per step: `losses.actor_critic` without a critic."""

    check_plug("loss", loss)

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

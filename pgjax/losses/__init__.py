"""Losses: functions that turn an evaluation and a batch into one loss per step, by name."""

from pgjax.losses.actor_critic import actor_critic, with_entropy
from pgjax.losses.contract import by_step
from pgjax.losses.policy import importance_weighted, policy_gradient, ppo_clip
from pgjax.losses.reference_kl import anchored
from pgjax.losses.sequences import sequence_clip
from pgjax.losses.value import action_value_error, q_error, value_error

__all__ = [
    "LOSSES",
    "action_value_error",
    "actor_critic",
    "anchored",
    "by_step",
    "importance_weighted",
    "policy_gradient",
    "ppo_clip",
    "q_error",
    "sequence_clip",
    "value_error",
    "with_entropy",
]

LOSSES = {
    "policy_gradient": policy_gradient,
    "importance_weighted": importance_weighted,
    "ppo_clip": ppo_clip,
    "value_error": value_error,
    "action_value_error": action_value_error,
}

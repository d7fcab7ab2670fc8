"""Losses: functions that turn an evaluation and a batch into one loss per step, by name."""

from pgjax.losses.actor_critic import actor_critic, with_entropy
from pgjax.losses.contract import by_step
from pgjax.losses.policy import awr, cispo, importance_weighted, policy_gradient, ppo_clip, spo
from pgjax.losses.reference_kl import anchored
from pgjax.losses.sequences import sequence_clip
from pgjax.losses.v_mpo import v_mpo
from pgjax.losses.value import action_value_error, q_error, value_error

__all__ = [
    "LOSSES",
    "action_value_error",
    "actor_critic",
    "anchored",
    "awr",
    "by_step",
    "cispo",
    "importance_weighted",
    "policy_gradient",
    "ppo_clip",
    "q_error",
    "sequence_clip",
    "spo",
    "v_mpo",
    "value_error",
    "with_entropy",
]

LOSSES = {
    "policy_gradient": policy_gradient,
    "importance_weighted": importance_weighted,
    "ppo_clip": ppo_clip,
    "awr": awr,
    "cispo": cispo,
    "spo": spo,
    "value_error": value_error,
    "action_value_error": action_value_error,
}

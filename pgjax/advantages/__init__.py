"""Advantages: functions that turn a trajectory and an evaluation into (advantage, target), by name."""

from pgjax.advantages.average_reward import differential, relative, relative_return
from pgjax.advantages.baselines import BASELINES, exact_value
from pgjax.advantages.groups import group_relative, leave_one_out
from pgjax.advantages.monte_carlo import monte_carlo
from pgjax.advantages.reference_kl import penalised
from pgjax.advantages.returns import RETURNS
from pgjax.advantages.shaping import shaped
from pgjax.advantages.temporal_difference import gae, n_step, td, v_trace

__all__ = [
    "ADVANTAGES",
    "BASELINES",
    "RETURNS",
    "differential",
    "exact_value",
    "gae",
    "group_relative",
    "leave_one_out",
    "monte_carlo",
    "n_step",
    "penalised",
    "relative",
    "relative_return",
    "shaped",
    "td",
    "v_trace",
]

ADVANTAGES = {
    "gae": gae,
    "v_trace": v_trace,
    "td": td,
    "n_step": n_step,
    "monte_carlo": monte_carlo,
    "leave_one_out": leave_one_out,
    "group_relative": group_relative,
    "differential": differential,
    "relative": relative,
    "relative_return": relative_return,
}

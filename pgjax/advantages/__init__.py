"""Advantages: functions that turn a trajectory and an evaluation into (advantage, target), by name."""

from typing import Any

from pgjax.advantages.average_reward import differential, relative, relative_return
from pgjax.advantages.baselines import BASELINES, exact_value
from pgjax.advantages.greedy import remax
from pgjax.advantages.groups import dynamic_sampling, group_relative, leave_one_out, opo
from pgjax.advantages.monte_carlo import monte_carlo
from pgjax.advantages.reference_kl import penalised
from pgjax.advantages.returns import RETURNS
from pgjax.advantages.shaping import shaped
from pgjax.advantages.temporal_difference import gae, n_step, q_lambda, td, v_trace

__all__ = [
    "ADVANTAGES",
    "BASELINES",
    "RETURNS",
    "differential",
    "dynamic_sampling",
    "exact_value",
    "gae",
    "group_relative",
    "leave_one_out",
    "monte_carlo",
    "n_step",
    "opo",
    "penalised",
    "q_lambda",
    "relative",
    "relative_return",
    "remax",
    "shaped",
    "td",
    "v_trace",
]

ADVANTAGES: dict[str, Any] = {
    "gae": gae,
    "v_trace": v_trace,
    "td": td,
    "n_step": n_step,
    "q_lambda": q_lambda,
    "monte_carlo": monte_carlo,
    "leave_one_out": leave_one_out,
    "group_relative": group_relative,
    "dynamic_sampling": dynamic_sampling,
    "opo": opo,
    "remax": remax,
    "differential": differential,
    "relative": relative,
    "relative_return": relative_return,
}

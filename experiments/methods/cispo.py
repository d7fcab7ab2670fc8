"""CISPO: the clipped ratio weighs the score of every token, so that none loses its gradient.

stop_gradient(clip(rho, 1 - eps_low, 1 + eps_high)) A log pi; they set no lower bound, which eps_low = inf does.
MiniMax 2025, MiniMax-M1: scaling test-time compute efficiently with lightning attention. They divide by the tokens of
all answers, as surrogate(cispo, reduce="step") does; the row `grpo` divides each answer by its own.

    pgjax train grpo copying --loss experiments/methods/cispo.py:cispo --set eps_high=1,4
"""

import math

import jax
import jax.numpy as jnp

from pgjax import losses
from pgjax.hyperparameters import Bound


@losses.by_step
def cispo(now, batch, *, eps_low: Bound = math.inf, eps_high: Bound = 1.0):
    """REINFORCE weighed by the clipped ratio; [T, B]."""
    ratio = jax.lax.stop_gradient(jnp.exp(now.log_prob - batch.trajectory.log_prob))
    return -jnp.clip(ratio, 1 - eps_low, 1 + eps_high) * batch.advantage * now.log_prob, {}

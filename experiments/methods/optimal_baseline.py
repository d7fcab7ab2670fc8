"""REINFORCE with the constant baseline of least variance, estimated from all steps so far.

b = sum w G / sum w, w = |grad log pi(a | s)|^2 to the logits, that is |e_a - pi|^2, where the paper takes the
gradient to the weights. Both sums decay by `decay` for each batch and hold what came before it, so that no return is
part of its own baseline. Greensmith et al. 2004, Variance reduction techniques for gradient estimates in
reinforcement learning.

    pgjax train reinforce CartPole-v1 --advantage experiments/methods/optimal_baseline.py:optimal_baseline \\
        --set decay=0.9,0.99
"""

from typing import Annotated

import jax.numpy as jnp

from pgjax import Role, Running
from pgjax.hyperparameters import Probability
from pgjax.numerics import returns


def _optimal(
    state, trajectory, now, *, discount: Annotated[Probability, Role.DISCOUNT] = 0.99, decay: Probability = 0.9
):
    weighed, total = state
    g = returns.discounted_return(trajectory.reward, trajectory.terminated, trajectory.truncated, discount)
    pi = jnp.exp(now.dist.log_probs())
    w = trajectory.mask * (jnp.sum(pi**2, axis=-1) + 1 - 2 * returns.taken(pi, trajectory.action))
    baseline = weighed / jnp.where(total > 0, total, 1.0)
    return (decay * weighed + jnp.sum(w * g), decay * total + jnp.sum(w)), (g - baseline, now.value)


optimal_baseline = Running(init=lambda *_: (jnp.zeros(()), jnp.zeros(())), apply=_optimal)

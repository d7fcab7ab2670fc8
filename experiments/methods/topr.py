"""TOPR: answers that were right are imitated as they stand, wrong ones unlearned only as far as pi still gives them.

The gradient is the mean over episodes of A grad log pi(y) where A > 0, and of min(rho, bound) A grad log pi(y) where
A < 0, rho = pi(y) / b(y) of the whole episode; bound = 1. Le Roux et al. 2025, Tapered off-policy REINFORCE: stable and
efficient reinforcement learning for LLMs.

    pgjax train rloo copying --loss experiments/methods/topr.py:topr --set bound=0.5,1
"""

import jax
import jax.numpy as jnp

from pgjax.declarations import whole_episodes
from pgjax.hyperparameters import Bound


@whole_episodes
def topr(now, batch, *, bound: Bound = 1.0):
    """REINFORCE, whose negative episodes are weighed by their truncated ratios; [T, B]."""
    log_ratio = jnp.where(batch.trajectory.mask > 0, now.log_prob - batch.trajectory.log_prob, 0.0)
    ratio = jax.lax.stop_gradient(jnp.exp(jnp.sum(log_ratio, axis=0, keepdims=True)))
    weight = jnp.where(batch.advantage < 0, jnp.minimum(ratio, bound), 1.0)
    return -weight * batch.advantage * now.log_prob, {}

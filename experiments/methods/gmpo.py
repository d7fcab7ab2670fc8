"""GMPO: the geometric mean over a sequence's tokens of their clipped ratios.

A (prod_t r_t)^(1 / |y|), r_t = min(rho_t, e^eps) where A > 0 and max(rho_t, e^-eps) where A < 0, once for each
sequence, of whose steps all have the same A. Zhao et al. 2025, Geometric-mean policy optimization.

    pgjax train grpo copying --loss experiments/methods/gmpo.py:gmpo --set clip_eps=0.2,0.4
"""

import jax.numpy as jnp

from pgjax.declarations import whole_episodes
from pgjax.hyperparameters import Bound


@whole_episodes
def gmpo(now, batch, *, clip_eps: Bound = 0.4):
    """A times the geometric mean of the sequence's clipped ratios, the same at each of its steps; [T, B]."""
    mask = batch.trajectory.mask
    log_ratio = jnp.where(mask > 0, now.log_prob - batch.trajectory.log_prob, 0.0)
    clipped = jnp.where(batch.advantage > 0, jnp.minimum(log_ratio, clip_eps), jnp.maximum(log_ratio, -clip_eps)) * mask
    mean = jnp.sum(clipped, axis=0, keepdims=True) / jnp.maximum(jnp.sum(mask, axis=0, keepdims=True), 1.0)
    return -jnp.exp(mean) * batch.advantage, {}

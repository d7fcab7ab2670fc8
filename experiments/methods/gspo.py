"""GSPO: PPO's clip, of one ratio for the whole sequence y, length-normalised.

s = (pi(y) / pi_old(y))^(1 / |y|), min(s A, clip(s, 1 - eps_low, 1 + eps_high) A), once for each sequence. Zheng et al.
2025, Group sequence policy optimization, whose bounds these are. `pgjax.losses.sequence_clip` is the same with one eps.

    pgjax train grpo copying --loss experiments/methods/gspo.py:gspo --set eps_high=0.0004,0.2
"""

import jax.numpy as jnp

from pgjax.declarations import whole_episodes
from pgjax.hyperparameters import Bound


@whole_episodes
def gspo(now, batch, *, eps_low: Bound = 3e-4, eps_high: Bound = 4e-4):
    """The clipped surrogate of the sequence's ratio, the same at each of its steps; [T, B]."""
    mask = batch.trajectory.mask
    log_ratio = jnp.where(mask > 0, now.log_prob - batch.trajectory.log_prob, 0.0)
    ratio = jnp.exp(jnp.sum(log_ratio, axis=0, keepdims=True) / jnp.maximum(jnp.sum(mask, axis=0, keepdims=True), 1.0))
    clipped = jnp.clip(ratio, 1 - eps_low, 1 + eps_high)
    return -jnp.minimum(ratio * batch.advantage, clipped * batch.advantage), {}

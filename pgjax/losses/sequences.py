"""What language models add to losses and rewards: ratios of whole sequences, and the distance to a reference policy.

A learner whose plugs have a hyperparameter of `Role.REFERENCE` keeps the parameters that it began with, and gives their
log-probabilities along in `Trajectory.reference`, which takes one more evaluation of each batch.
"""

import jax.numpy as jnp

from pgjax.declarations import whole_episodes
from pgjax.hyperparameters import Bound
from pgjax.losses.policy import clipped_surrogate
from pgjax.types import Array, Batch, Evaluation


@whole_episodes
def sequence_clip(
    now: Evaluation, batch: Batch, *, clip_eps: Bound = 0.2, clip_high: Bound = 0.0, geometric: bool = True
) -> tuple[Array, dict[str, Array]]:
    """PPO's clipped surrogate with one ratio for the whole sequence, at each of its steps.

    min(s A, clip(s, 1 - eps, 1 + high) A), s = (pi(y) / pi_old(y))^(1 / |y|) of the sequence y.

    Args:
      clip_high: the eps of the upper bound alone, 0 the same as `clip_eps`; GSPO's are 3e-4 and 4e-4 (sec. 5.1).
      geometric: the ratio is the geometric mean over tokens (Zheng et al. 2025, GSPO, eq. 7), else their product.

    With surrogate(reduce="episode_mean") a sequence counts once, as it should.
    """
    trajectory = batch.trajectory
    if trajectory.mask.ndim != 2:
        raise ValueError(f"sequence_clip needs whole episodes [T, B], got rows {trajectory.mask.shape}")
    log_ratio = jnp.sum(jnp.where(trajectory.mask > 0, now.log_prob - trajectory.log_prob, 0.0), axis=0)
    if geometric:
        log_ratio = log_ratio / jnp.maximum(jnp.sum(trajectory.mask, axis=0), 1.0)
    ratio = jnp.broadcast_to(jnp.exp(log_ratio), trajectory.mask.shape)
    clipped, outside = clipped_surrogate(ratio, batch.advantage, clip_eps, clip_high)
    return -clipped, {"clip_fraction": outside}


LOSSES = {"sequence_clip": sequence_clip}

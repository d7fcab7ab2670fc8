"""OPO: the return less the mean of its group weighed by length, the baseline of least variance for long answers.

A_i = R_i - sum_j l_j R_j / sum_j l_j over the K episodes of a group, l_j their lengths. Hao et al. 2025, On-policy RL
with optimal reward baseline. It is meant for one gradient step per batch, without a penalty.

    pgjax train rloo copying --advantage experiments/methods/opo.py:opo --set num_minibatches=1 clip_eps=0.1,0.2
"""

from typing import Annotated

import jax.numpy as jnp

from pgjax import Range, Role
from pgjax.declarations import whole_episodes


@whole_episodes
def opo(trajectory, now, *, samples: Annotated[int, Range(2), Role.SAMPLES] = 8):
    """The return of the episode less the weighed mean of its group, at each step; [T, B]."""
    grouped = lambda x: jnp.sum(jnp.where(trajectory.mask > 0, x, 0.0), axis=0).reshape(-1, samples)  # noqa: E731
    total, length = grouped(trajectory.reward), grouped(trajectory.mask)
    baseline = jnp.sum(length * total, axis=1, keepdims=True) / jnp.sum(length, axis=1, keepdims=True)
    return jnp.broadcast_to((total - baseline).reshape(-1), trajectory.mask.shape), now.value

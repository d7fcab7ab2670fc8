"""Pass@k training: an answer's advantage is that of the groups of k answers that it could have been in.

Of N answers F fail; a group of k passes unless all fail: m = 1 - C(F, k) / C(N, k), s = sqrt(m (1 - m)). A right
answer's advantage is (1 - m) / s, a wrong one's (1 - m - C(F - 1, k - 1) / C(N - 1, k - 1)) / s. Chen et al. 2025,
Pass@k training for adaptively balancing exploration and exploitation of large reasoning models.

    pgjax train grpo copying --advantage experiments/methods/pass_at_k.py:pass_at_k --set clip_eps=0.1,0.2
"""

import math
from typing import Annotated

import jax.numpy as jnp

from pgjax import Range, Role
from pgjax.declarations import whole_episodes


@whole_episodes
def pass_at_k(trajectory, now, *, samples: Annotated[int, Range(2), Role.SAMPLES] = 8, k: Annotated[int, Range(1)] = 4):
    """The advantage in pass@k of answers that are right where their return is above 1/2; [T, B]."""
    if k >= samples:
        raise ValueError(f"pass_at_k: k must be below samples={samples}, got {k}")
    right = jnp.sum(jnp.where(trajectory.mask > 0, trajectory.reward, 0.0), axis=0).reshape(-1, samples) > 0.5
    fails = jnp.sum(~right, axis=1, keepdims=True)
    fail, others = (math.prod((fails - i) / (samples - i) for i in range(j, k)) for j in (0, 1))
    spread = jnp.sqrt(fail * (1 - fail))
    advantage = jnp.where(right, fail, fail - others) / jnp.where(spread > 0, spread, 1.0) * (spread > 0)
    return jnp.broadcast_to(advantage.reshape(-1), trajectory.mask.shape), now.value

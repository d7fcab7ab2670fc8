"""Advantages over the range of returns, so that one entropy bonus suits small rewards and large ones.

A / max(1, S), S moving by 1 - `decay` towards the difference of the batch's 95th and 5th percentile of the targets.
Hafner et al. 2023, Mastering diverse domains through world models, eq. 11 and 12; the advantage is GAE's.

    pgjax train ppo CartPole-v1 --advantage experiments/methods/percentile_scale.py:percentile_scale \\
        --set normalize_advantage=False decay=0.9,0.99
"""

import jax.numpy as jnp

from pgjax import Running, advantages
from pgjax.hyperparameters import Probability, declare


def _scaled(scale, trajectory, now, *, decay: Probability = 0.99, **hypers):
    advantage, target = advantages.gae(trajectory, now, **hypers)
    ends = jnp.nanpercentile(jnp.where(trajectory.mask > 0, target, jnp.nan), jnp.array([5.0, 95.0]))
    scale = decay * scale + (1 - decay) * (ends[1] - ends[0])
    return scale, (advantage / jnp.maximum(1.0, scale), target)


percentile_scale = Running(init=lambda *_: jnp.zeros(()), apply=declare(_scaled, advantages.gae))

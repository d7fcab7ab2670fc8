"""Decoupled PPO: the clip is around a recent policy, whichever policy acted; a ratio corrects for the latter.

(prox / acted) min(rho A, clip(rho, 1 - eps, 1 + eps) A), rho = pi / prox, prox the policy when the batch was collected;
with `lag` the policy that acted is older. Hilton et al. 2021, Batch size-invariance for policy optimization, eq. 2; Fu
et al. 2025, AReaL: a large-scale asynchronous reinforcement learning system for language reasoning.

    pgjax train ppo CartPole-v1 --loss experiments/methods/decoupled_ppo.py:decoupled_ppo --set lag=4 clip_eps=0.1,0.2
"""

import jax.numpy as jnp

from pgjax import losses
from pgjax.hyperparameters import Bound


@losses.by_step
def decoupled_ppo(now, batch, *, clip_eps: Bound = 0.2):
    """The surrogate clipped around the policy that was learning, weighed by its ratio to that which acted; [T, B]."""
    ratio = jnp.exp(now.log_prob - batch.then.log_prob)
    clipped = jnp.clip(ratio, 1 - clip_eps, 1 + clip_eps)
    correction = jnp.exp(batch.then.log_prob - batch.trajectory.log_prob)
    return -correction * jnp.minimum(ratio * batch.advantage, clipped * batch.advantage), {}

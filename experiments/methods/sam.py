"""Sharpness-aware minimisation of PPO's loss: the gradient where the loss is worst within `radius` of the parameters.

g(theta + radius g(theta) / |g(theta)|). Foret et al. 2021, Sharpness-aware minimization for efficiently improving
generalization.

    pgjax train ppo CartPole-v1 --estimator experiments/methods/sam.py:sam --set radius=0.01,0.05
"""

import jax
import jax.numpy as jnp
import optax

from pgjax import estimators, losses
from pgjax.hyperparameters import NonNegative, declare

_ppo = estimators.surrogate(losses.actor_critic(losses.ppo_clip))


def sam(key, policy, params, batch, *, radius: NonNegative = 0.05, **hypers):
    """The gradient of PPO's loss, one ascending step of length `radius` away; a tree like params."""
    gradient, _ = _ppo(key, policy, params, batch, **hypers)
    scale = radius / jnp.maximum(optax.tree.norm(gradient), 1e-12)
    return _ppo(key, policy, jax.tree.map(lambda p, g: p + scale * g, params, gradient), batch, **hypers)


declare(sam, _ppo)

"""PCGrad: where the gradients of actor and critic point against each other, each loses its part along the other.

g_a - min(g_a . g_c, 0) g_c / |g_c|^2, plus the same with a and c exchanged. It matters where they share a torso. Yu et
al. 2020, Gradient surgery for multi-task learning.

    pgjax train ppo CartPole-v1 --estimator experiments/methods/pcgrad.py:pcgrad --set shared=True value_coef=0.1,0.5
"""

import jax
import jax.numpy as jnp
import optax

from pgjax import estimators, losses
from pgjax.hyperparameters import NonNegative, declare

_actor = estimators.surrogate(losses.with_entropy(losses.ppo_clip))
_critic = estimators.surrogate(losses.value_error)


def pcgrad(key, policy, params, batch, *, value_coef: NonNegative = 0.5, **hypers):
    """The sum of PPO's two gradients without their conflict; a tree like params."""
    actor, metrics = _actor(key, policy, params, batch, **hypers)
    critic, more = _critic(key, policy, params, batch)
    critic = optax.tree.scale(value_coef, critic)
    conflict = jnp.minimum(optax.tree.vdot(actor, critic), 0.0)
    a, c = (1 - conflict / jnp.maximum(optax.tree.vdot(g, g), 1e-30) for g in (actor, critic))
    return jax.tree.map(lambda x, y: a * x + c * y, actor, critic), {**more, **metrics}


declare(pcgrad, _actor)

"""Self-imitation: what turned out better than the critic thinks is imitated, from a memory of the best episodes.

A log pi of the batch, plus coef ((R - V)_+ log pi - beta / 2 (R - V)_+^2) of as many remembered episodes, those of
highest return so far; no gradient through the first (R - V)_+. R is the return. Oh et al. 2018, Self-imitation
learning; they remember all episodes and draw from them by priority. It is for one gradient step a batch, as reinforce
has: with more epochs, an episode would be remembered once for each.

    pgjax train reinforce CartPole-v1 --estimator experiments/methods/self_imitation.py:self_imitation \\
        --set baseline=value coef=0,1
"""

import jax
import jax.numpy as jnp

from pgjax import Running, estimators, losses
from pgjax.declarations import whole_episodes
from pgjax.estimators import pieces
from pgjax.hyperparameters import NonNegative, declare


@losses.by_step
def _imitation(now, batch, *, beta: NonNegative = 0.01):
    better = jnp.maximum(batch.target - now.value, 0.0)
    return beta / 2 * better**2 - jax.lax.stop_gradient(better) * now.log_prob, {}


_actor_critic = estimators.surrogate(losses.actor_critic(losses.policy_gradient), reduce="episode")
_imitate = estimators.surrogate(_imitation, reduce="episode")


def _self_imitation(best, key, policy, params, batch, *, coef: NonNegative = 1.0, beta: NonNegative = 0.01, **hypers):
    both = jax.tree.map(lambda x, y: jnp.concatenate([x, y], axis=1), best, batch)
    reward, counts = both.trajectory.reward, both.trajectory.mask > 0
    reached = jnp.where(jnp.any(counts, axis=0), jnp.sum(jnp.where(counts, reward, 0.0), axis=0), -jnp.inf)
    best = pieces.take(both, jax.lax.top_k(reached, best.advantage.shape[1])[1], by_column=True)
    gradient, metrics = _actor_critic(key, policy, params, batch, **hypers)
    imitation, _ = _imitate(key, policy, params, best, beta=beta)
    return best, (jax.tree.map(lambda x, y: x + coef * y, gradient, imitation), metrics)


self_imitation = whole_episodes(
    Running(init=lambda key, policy, params, batch: batch, apply=declare(_self_imitation, _actor_critic))
)

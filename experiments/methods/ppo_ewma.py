"""PPO-EWMA: the clip is around the policy of an exponential mean of the parameters; a ratio corrects for who acted.

(prox / acted) min(rho A, clip(rho, 1 - eps, 1 + eps) A), rho = pi / prox; prox has the parameters
sum_k decay^k theta_{n-k} / sum_k decay^k of the gradient steps so far, this one included. Hilton et al. 2021, Batch
size-invariance for policy optimization, eq. 2 and sec. 3.

    pgjax train ppo CartPole-v1 --estimator experiments/methods/ppo_ewma.py:ppo_ewma --set decay=0.8,0.889
"""

import jax
import jax.numpy as jnp
import optax

from pgjax import Running, estimators, losses
from pgjax.hyperparameters import Bound, Probability, declare


@losses.by_step
def _decoupled(now, batch, *, clip_eps: Bound = 0.2):
    ratio = jnp.exp(now.log_prob - batch.then.log_prob)
    clipped = jnp.clip(ratio, 1 - clip_eps, 1 + clip_eps)
    correction = jnp.exp(batch.then.log_prob - batch.trajectory.log_prob)
    return -correction * jnp.minimum(ratio * batch.advantage, clipped * batch.advantage), {}


_ppo = estimators.surrogate(losses.actor_critic(_decoupled))


def _ppo_ewma(state, key, policy, params, batch, *, decay: Probability = 0.889, **hypers):
    mean, weight = state
    weight = decay * weight + 1
    mean = optax.incremental_update(params, mean, 1 / weight)
    then = policy.evaluate(mean, batch.trajectory)
    return (mean, weight), _ppo(key, policy, params, batch._replace(then=then), **hypers)


ppo_ewma = Running(
    init=lambda key, policy, params, batch: (jax.tree.map(jnp.copy, params), jnp.zeros(())),
    apply=declare(_ppo_ewma, _ppo),
)

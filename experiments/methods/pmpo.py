"""PMPO: steps are good or bad by the sign of their advantage; its size plays no part.

alpha mean_good log pi - (1 - alpha) mean_bad log pi - beta KL(old || new), the last at every step, exactly. Each of the
two means is over its own steps of the (mini)batch. Abdolmaleki et al. 2024, Preference optimization as probabilistic
inference.

    pgjax train ppo CartPole-v1 --loss experiments/methods/pmpo.py:pmpo --set alpha=0.5,0.9
"""

import jax.numpy as jnp

from pgjax.hyperparameters import NonNegative, Probability


def pmpo(now, batch, *, alpha: Probability = 0.5, beta: NonNegative = 0.5):
    """Likelihood of good steps less that of bad ones, with a KL to the policy before the update; [T, B] or [N]."""
    mask, good = batch.trajectory.mask, batch.advantage >= 0
    share = lambda those: jnp.sum(mask) / jnp.maximum(jnp.sum(mask * those), 1.0)  # noqa: E731
    weight = jnp.where(good, alpha * share(good), -(1 - alpha) * share(~good))
    return -(weight * now.log_prob - beta * batch.then.dist.kl(now.dist)), {}

"""V-MPO: the better half of the steps is imitated, weighed by their advantages; temperature and KL have multipliers.

-sum psi log pi + alpha KL(old || new), psi the softmax of A / eta over the steps whose advantage is at or above the
median. Both multipliers descend duals of their own: eta (eps_eta + log mean exp(A / eta)), and
alpha (eps_alpha - mean KL). Song et al. 2019, V-MPO: on-policy maximum a posteriori policy optimization; the duals take
plain gradient steps here, where theirs take Adam's.

    pgjax train ppo CartPole-v1 --loss experiments/methods/v_mpo.py:v_mpo --set eps_eta=0.02,0.1
"""

import jax
import jax.numpy as jnp

from pgjax import Running
from pgjax.hyperparameters import NonNegative, Positive
from pgjax.numerics import masked


def _v_mpo(state, now, batch, *, eps_eta: Positive = 0.1, eps_alpha: Positive = 0.01, dual_rate: NonNegative = 0.01):
    (eta, alpha), advantage, counts = state, batch.advantage, batch.trajectory.mask > 0
    top = counts & (advantage >= jnp.nanmedian(jnp.where(counts, advantage, jnp.nan)))
    mean = lambda eta: jax.nn.logsumexp(advantage / eta, where=top) - jnp.log(jnp.sum(top))  # noqa: E731
    psi = jnp.where(top, jnp.exp(advantage / eta - mean(eta)) / jnp.sum(top), 0.0)
    kl = batch.then.dist.kl(now.dist)
    slopes = jax.grad(lambda eta: eta * (eps_eta + mean(eta)))(eta), eps_alpha - masked.mean(kl, batch.trajectory.mask)
    following = tuple(jnp.maximum(x - dual_rate * slope, 1e-8) for x, slope in zip(state, slopes, strict=True))
    per_step = alpha * kl - jnp.sum(counts) * psi * now.log_prob
    return following, (per_step, {"eta": eta, "alpha": alpha, "kl": kl})


v_mpo = Running(init=lambda *_: (jnp.float32(1.0), jnp.float32(5.0)), apply=_v_mpo)

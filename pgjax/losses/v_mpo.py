"""The loss of V-MPO, which remembers: a temperature and a multiplier, each learned beside the policy."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from pgjax.hyperparameters import NonNegative, Positive
from pgjax.numerics import masked
from pgjax.types import Array, Batch, Evaluation, PyTree, Running

_LEAST = 1e-8  # to which the paper projects both duals


class Duals(NamedTuple):
    """The temperature of the weights, and the multiplier of the bound on the KL; each []."""

    eta: Array
    alpha: Array


def _start(*_: PyTree) -> tuple[Duals, PyTree]:
    duals = Duals(jnp.float32(1.0), jnp.float32(5.0))
    return duals, optax.adam(0.0).init(duals)


def _v_mpo(
    state: tuple[Duals, PyTree],
    now: Evaluation,
    batch: Batch,
    *,
    eps_eta: Positive = 0.1,
    eps_alpha: Positive = 0.01,
    dual_rate: NonNegative = 0.01,
) -> tuple[tuple[Duals, PyTree], tuple[Array, dict[str, Array]]]:
    """V-MPO (Song et al. 2019): the better half of the steps is imitated, weighed by their advantages.

    L_pi = -sum psi log pi(a_t | s_t), psi the softmax of A / eta over the steps whose A is at or above the median
    L_eta = eta (eps_eta + log mean exp(A / eta)), the mean over the same steps
    L_alpha = alpha (eps_alpha - sg KL) + sg(alpha) KL, KL the mean KL(old || new) over all steps

    The median is that of the batch that is given, a minibatch where there are several: a step's loss depends on the
    others. `old` is the policy when the batch was collected, `batch.then`. Both duals begin where the paper's do, take
    Adam's steps of `dual_rate` down their own losses, and act on the policy one gradient step later. The KL of a
    Gaussian is one number here, where the paper bounds that of its mean and that of its deviation apart.

    Args:
      eps_eta: the bound on the KL of the weights to the actions' own, which sets the temperature eta.
      eps_alpha: the bound on the KL of the new policy to the old, which sets its weight alpha.
    """
    (duals, memory), advantage, mask = state, batch.advantage, batch.trajectory.mask
    eta, alpha = duals
    counts = mask > 0
    top = counts & (advantage >= jnp.nanmedian(jnp.where(counts, advantage, jnp.nan)))
    log_mean = jax.nn.logsumexp(advantage / eta, where=top) - jnp.log(jnp.sum(top))
    psi = jnp.where(top, jnp.exp(advantage / eta - log_mean) / jnp.sum(top), 0.0)
    kl = batch.then.dist.kl(now.dist)
    worth = jnp.sum(jnp.where(top, psi * advantage, 0.0))
    away = masked.mean(jax.lax.stop_gradient(kl), mask)
    slopes = Duals(eps_eta + log_mean - worth / eta, eps_alpha - away)
    steps, memory = optax.adam(dual_rate).update(slopes, memory)
    following = jax.tree.map(lambda x, step: jnp.maximum(x + step, _LEAST), duals, steps)
    per_step = alpha * kl - jnp.sum(counts) * psi * now.log_prob
    return (following, memory), (per_step, {"eta": eta, "alpha": alpha, "kl": kl})


_v_mpo.__name__ = "v_mpo"


v_mpo = Running(_start, _v_mpo)

"""What language models add to losses and rewards: ratios of whole sequences, and the distance to a reference policy.

A learner whose plugs have `reference_penalty` or `reference_coef` keeps the parameters that it began with, and gives
their log-probabilities along in `Trajectory.reference`, which takes one more evaluation of each batch.
"""

import jax
import jax.numpy as jnp

from pgjax.losses import by_step, checked, is_by_step
from pgjax.plugs import declare, name_of
from pgjax.types import AdvantageFn, Array, Batch, Evaluation, LossFn, RunningAdvantage

KL = ("k1", "k2", "k3")


def kl_estimate(log_prob: Array, reference: Array, kind: str) -> Array:
    """Estimates of KL(pi || reference) at actions of pi (Schulman 2020, Approximating KL divergence).

    With x = log reference - log pi: k1 = -x, k2 = x^2 / 2, k3 = e^x - 1 - x; the means of k1 and k3 are the KL.
    Above x = 20 k3 stays at what it is there, so that an action that pi gave up can't overflow.

    Args:
      log_prob, reference: of the same actions, any shape, which is that of the result.
    """
    if kind not in KL:
        raise ValueError(f"reference_kl must be one of {', '.join(KL)}; got {kind!r}")
    x = reference - log_prob
    return {"k1": -x, "k2": 0.5 * x**2, "k3": jnp.expm1(jnp.minimum(x, 20.0)) - jnp.minimum(x, 20.0)}[kind]


def penalised(advantage: AdvantageFn | RunningAdvantage) -> AdvantageFn | RunningAdvantage:
    """The same of the reward r_t - reference_penalty KL_t, an estimate of the KL from what acted to the reference.

    With k1 its sum over an episode has the mean KL(pi || reference) of whole sequences, and its gradient is exact
    (Ziegler et al. 2019, eq. 2).
    """
    inner = advantage.apply if isinstance(advantage, RunningAdvantage) else advantage

    def apply(*arguments, reference_penalty: float = 0.0, reference_kl: str = "k1", **hypers):
        *state, trajectory, now = arguments
        kl = kl_estimate(trajectory.log_prob, _reference(trajectory, apply), reference_kl)
        reward = trajectory.reward - reference_penalty * jnp.where(trajectory.mask > 0, kl, 0.0)
        return inner(*state, trajectory._replace(reward=reward), now, **hypers)

    apply.__name__ = name_of(advantage)
    declare(apply, advantage)
    return advantage._replace(apply=apply) if isinstance(advantage, RunningAdvantage) else apply


def anchored(policy_loss: LossFn) -> LossFn:
    """The same plus reference_coef times an estimate of the KL to the reference (Shao et al. 2024, eq. 4).

    On policy, only k2's gradient has the mean of the KL's own, and that per token, not through the tokens that follow:
    k1's mean is zero, k3's is that of the KL the other way round.
    """

    def loss(now, batch, *, reference_coef: float = 0.0, reference_kl: str = "k3", **hypers):
        per_step, metrics = checked(policy_loss, policy_loss(now, batch, **hypers), now.log_prob.shape)
        reference = _reference(batch.trajectory, loss)
        # Behind an end the reference may be anything, and a gradient would spread it.
        reference = jnp.where(batch.trajectory.mask > 0, reference, jax.lax.stop_gradient(now.log_prob))
        kl = kl_estimate(now.log_prob, reference, reference_kl)
        return per_step + reference_coef * kl, metrics

    loss.__name__ = name_of(policy_loss)
    loss = declare(loss, policy_loss)
    return by_step(loss) if is_by_step(policy_loss) else loss


def sequence_clip(
    now: Evaluation, batch: Batch, *, clip_eps: float = 0.2, geometric: bool = True
) -> tuple[Array, dict[str, Array]]:
    """PPO's clipped surrogate with one ratio for the whole sequence, at each of its steps.

    Args:
      geometric: the ratio is the geometric mean over tokens (Zheng et al. 2025, GSPO, eq. 7), else their product.

    With surrogate(reduce="episode_mean") a sequence counts once, as it should.
    """
    trajectory = batch.trajectory
    if trajectory.mask.ndim != 2:
        raise ValueError(f"sequence_clip needs whole episodes [T, B], got rows {trajectory.mask.shape}")
    log_ratio = jnp.sum(jnp.where(trajectory.mask > 0, now.log_prob - trajectory.log_prob, 0.0), axis=0)
    if geometric:
        log_ratio = log_ratio / jnp.maximum(jnp.sum(trajectory.mask, axis=0), 1.0)
    ratio = jnp.broadcast_to(jnp.exp(log_ratio), trajectory.mask.shape)
    clipped = jnp.clip(ratio, 1 - clip_eps, 1 + clip_eps)
    outside = (jnp.abs(ratio - 1) > clip_eps).astype(ratio.dtype)
    return -jnp.minimum(ratio * batch.advantage, clipped * batch.advantage), {"clip_fraction": outside}


LOSSES = {"sequence_clip": sequence_clip}


def _reference(trajectory, plug) -> Array:
    if isinstance(trajectory.reference, tuple):
        raise ValueError(f"{name_of(plug)}: the trajectory has no log-probabilities of a reference; fill `reference`")
    return jax.lax.stop_gradient(trajectory.reference)

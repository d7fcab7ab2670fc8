"""One step of TRPO: a natural gradient step, shortened until the KL divergence stays in bounds."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from pgjax.estimators.natural import fisher
from pgjax.estimators.surrogate import surrogate
from pgjax.hyperparameters import declare, name_of
from pgjax.losses.actor_critic import with_entropy
from pgjax.losses.policy import importance_weighted
from pgjax.numerics import masked
from pgjax.numerics.conjugate_gradients import conjugate_gradients
from pgjax.numerics.scans import scan_while
from pgjax.types import Array, EstimatorFn, LossFn


class Attempt(NamedTuple):
    """A step that was taken, or none; each []."""

    accepted: Array  # 0. or 1.
    backtracks: Array  # k
    fraction: Array  # backtrack^k
    kl: Array
    improvement: Array


def trust_region_step(loss: LossFn = importance_weighted) -> EstimatorFn:
    """Minus the policy's step in its trust region, as a gradient that is to be followed at learning rate 1.

    s = -beta x, x = (F + damping)^-1 g by conjugate gradients, beta = sqrt(2 max_kl / x^T (F + damping) x), so that
    the quadratic model of the KL is max_kl at most (Schulman et al. 2015, app. C). The step is backtrack^k s for
    the first k = 0, 1, ... at which the exact mean KL is within max_kl and the loss lower than before; where
    there is none, 0.

    Args:
      loss: a LossFn of the policy alone, meant for ratios to the policy that acted.

    The estimator's own hyperparameters: `max_kl`; `damping` of F; `cg_steps`, iterations of conjugate gradients;
    `line_search`, how many lengths are tried, 0 for the whole step unseen; `backtrack`; `normalize_advantage`, mean
    0 and standard deviation 1 over the batch. Besides, those of the loss and `entropy_coef`. Metrics: `accepted`,
    0 or 1; `backtracks`, k, or line_search where none was accepted; `kl`, the exact mean KL(old || new) of the step
    made; `improvement`, by how much the loss fell; `cg_residual`.
    """
    actor_loss = with_entropy(loss)
    lifted = surrogate(actor_loss)

    def estimator(
        key,
        policy,
        params,
        batch,
        *,
        max_kl: float = 0.01,
        damping: float = 0.1,
        cg_steps: int = 10,
        line_search: int = 10,
        backtrack: float = 0.8,
        normalize_advantage: bool = False,
        **hypers,
    ):
        trajectory = batch.trajectory
        mask = trajectory.mask
        advantage = jnp.where(mask > 0, batch.advantage, 0.0)
        if normalize_advantage:
            advantage = masked.normalized(advantage, mask, jnp.maximum(jnp.abs(batch.value), jnp.abs(batch.target)))
        batch = batch._replace(advantage=advantage)
        g, metrics = lifted(key, policy, params, batch, **hypers)
        x, residual = conjugate_gradients(fisher(policy, params, trajectory, damping), g, cg_steps)
        # x^T (F + damping) x = x^T g, however few the iterations. No slope, no step; what isn't a number stays none.
        curvature = optax.tree.vdot(x, g)
        length = jnp.where(curvature == 0, 0.0, jnp.sqrt(2 * max_kl / curvature))
        whole = jax.tree.map(lambda leaf: length * leaf, x)

        def mean(per_step):
            return masked.mean(per_step, mask)

        def look(params):
            now = policy.evaluate(params, trajectory)
            return now.dist, mean(actor_loss(now, batch, **hypers)[0])

        old, before = look(params)

        def measured(fraction):
            new, after = look(jax.tree.map(lambda p, s: p - fraction * s, params, whole))
            return mean(old.kl(new)), before - after

        def attempt(kept, k):
            fraction = backtrack**k
            kl, improvement = measured(fraction)
            passed = (kl <= max_kl) & (improvement > 0) & (curvature != 0) if line_search else True
            take = passed & (kept.accepted == 0)
            tried = Attempt(jnp.ones_like(kl), k, fraction, kl, improvement)
            return jax.tree.map(lambda old, new: jnp.where(take, new, old), kept, tried), None

        zero = jnp.zeros((), before.dtype)
        none = Attempt(zero, zero + line_search, zero, zero, zero)
        lengths = jnp.arange(max(line_search, 1), dtype=before.dtype)
        made, _ = scan_while(attempt, none, lengths, lambda kept, _: kept.accepted == 0)
        metrics |= {name: x for name, x in made._asdict().items() if name != "fraction"}
        # 0 times a step that is no number is none either: that failure is not undone here, but seen by `train`.
        return jax.tree.map(lambda leaf: made.fraction * leaf, whole), {**metrics, "cg_residual": residual}

    estimator.__name__ = name_of(loss)
    return declare(estimator, actor_loss)

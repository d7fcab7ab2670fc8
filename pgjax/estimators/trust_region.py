"""One step of TRPO: a natural gradient step, shortened until the KL divergence stays in bounds."""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pgjax.declarations import Role
from pgjax.estimators.natural import fisher
from pgjax.estimators.pieces import counted
from pgjax.estimators.surrogate import surrogate
from pgjax.hyperparameters import NonNegative, Positive, Probability, Range, declare, name_of
from pgjax.losses.actor_critic import with_entropy
from pgjax.losses.policy import importance_weighted
from pgjax.numerics import masked
from pgjax.numerics.conjugate_gradients import conjugate_gradients
from pgjax.numerics.scans import scan_while
from pgjax.running import check_plain
from pgjax.types import Array, Batch, EstimatorFn, LossFn, Policy, PyTree


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
    check_plain(loss, "trust_region_step")
    actor_loss = with_entropy(loss)
    lifted = surrogate(actor_loss)

    def estimator(
        key: Array,
        policy: Policy,
        params: PyTree,
        batch: Batch,
        *,
        max_kl: Annotated[Positive, Role.MAX_KL] = 0.01,
        damping: NonNegative = 0.1,
        cg_steps: Annotated[int, Range(1)] = 10,
        line_search: Annotated[int, Range(0)] = 10,
        backtrack: Probability = 0.8,
        normalize_advantage: Annotated[bool, Role.NORMALIZE] = False,
        **hypers: Any,
    ) -> tuple[PyTree, dict[str, Array]]:
        batch = counted(batch, normalize_advantage)
        g, metrics = lifted(key, policy, params, batch, **hypers)
        x, residual = conjugate_gradients(fisher(policy, params, batch.trajectory, damping), g, cg_steps)
        # x^T (F + damping) x = x^T g, however few the iterations. No slope, no step; NaN in, NaN out.
        curvature = optax.tree.vdot(x, g)
        length = jnp.where(curvature == 0, 0.0, jnp.sqrt(2 * max_kl / curvature))
        whole = jax.tree.map(lambda leaf: length * leaf, x)

        def look(params):
            now = policy.evaluate(params, batch.trajectory)
            return now.dist, masked.mean(actor_loss(now, batch, **hypers)[0], batch.trajectory.mask)

        old, before = look(params)

        def measured(fraction):
            new, after = look(jax.tree.map(lambda p, s: p - fraction * s, params, whole))
            return masked.mean(old.kl(new), batch.trajectory.mask), before - after

        allowed = lambda kl, improvement: (kl <= max_kl) & (improvement > 0) & (curvature != 0)  # noqa: E731
        made = _search(measured, allowed, line_search, backtrack, before.dtype)
        metrics |= {name: x for name, x in made._asdict().items() if name != "fraction"}
        # 0 times a NaN is NaN: that failure is not undone here, but seen by `train`.
        return jax.tree.map(lambda leaf: made.fraction * leaf, whole), {**metrics, "cg_residual": residual}

    estimator.__name__ = name_of(loss)
    return declare(estimator, actor_loss)


def _search(
    measured: Callable[[Array], tuple[Array, Array]],
    allowed: Callable[[Array, Array], Array],
    lengths: int,
    backtrack: float | Array,
    dtype: Any,
) -> Attempt:
    """The first of the steps backtrack^k, k < `lengths`, that is allowed; 0 lengths take the whole step unseen.

    Args:
      measured: fraction of the step -> (KL, improvement).
      allowed: (KL, improvement) -> bool.
    """

    def attempt(kept, k):
        fraction = backtrack**k
        kl, improvement = measured(fraction)
        passed = allowed(kl, improvement) if lengths else True
        take = passed & (kept.accepted == 0)
        tried = Attempt(jnp.ones_like(kl), k, fraction, kl, improvement)
        return jax.tree.map(lambda old, new: jnp.where(take, new, old), kept, tried), None

    zero = jnp.zeros((), dtype)
    none = Attempt(zero, zero + lengths, zero, zero, zero)
    numbers = jnp.arange(max(lengths, 1), dtype=dtype)
    return scan_while(attempt, none, numbers, lambda kept, _: kept.accepted == 0)[0]

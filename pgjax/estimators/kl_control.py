"""Estimators that watch the KL divergence: they stop early, or adapt a penalty."""

import math
from typing import Annotated, Any

import jax.numpy as jnp

from pgjax.declarations import Role
from pgjax.hyperparameters import Bound, NonNegative, by_role, declare, hyperparameters, name_of
from pgjax.types import Array, Batch, EstimatorFn, Policy, PyTree, RunningEstimator


def early_stopping(estimator: EstimatorFn) -> EstimatorFn:
    """The same, ending an update at the first minibatch whose mean KL is above `stop_kl`; inf never does.

    The step of that minibatch isn't made. The KL is the metric `kl` of the loss, as `losses.ppo_clip` has it: from
    the policy that acted to the one before the step.
    """
    _plain(estimator, "early_stopping")

    def stopping(
        key: Array,
        policy: Policy,
        params: PyTree,
        batch: Batch,
        *,
        stop_kl: Annotated[Bound, Role.STOP_KL] = math.inf,
        **hypers: Any,
    ) -> tuple[PyTree, dict[str, Array]]:
        gradient, metrics = estimator(key, policy, params, batch, **hypers)
        return gradient, {**metrics, "stop": _kl(metrics, estimator) > stop_kl}

    stopping.__name__ = name_of(estimator)
    return declare(stopping, estimator)


def adaptive_kl(estimator: EstimatorFn) -> RunningEstimator:
    """The same with a coefficient of the KL penalty, `kl_coef`, that doubles or halves after each update.

    Schulman et al. 2017, sec. 4: doubled where the mean KL of the last epoch is above 1.5 `target_kl`, halved where
    it is below `target_kl` / 1.5; `kl_coef` is what it begins with, and the metric `penalty` what it is. The factor
    stays within 2^-20 and 2^20. The KL is that before each step of the last epoch, the paper's that after the last.
    """
    _plain(estimator, "adaptive_kl")
    coef = by_role(estimator).get(Role.KL_COEF)
    if coef is None:
        raise ValueError(
            f"adaptive_kl needs a loss with a coefficient of its KL, such as kl_coef: Annotated[float, Role.KL_COEF]; "
            f"{name_of(estimator)} has none"
        )

    def apply(
        factor: Array,
        key: Array,
        policy: Policy,
        params: PyTree,
        batch: Batch,
        *,
        target_kl: Annotated[NonNegative, Role.TARGET_KL] = 0.01,
        **hypers: Any,
    ) -> tuple[PyTree, dict[str, Array]]:
        del target_kl
        hypers[coef] = factor * hypers.get(coef, hyperparameters(estimator)[coef])
        gradient, metrics = estimator(key, policy, params, batch, **hypers)
        return gradient, {**metrics, "penalty": hypers[coef]}

    def after(factor: Array, metrics: dict[str, Array], *, target_kl: float = 0.01, **hypers: Any) -> Array:
        kl = _kl(metrics, estimator)
        factor = jnp.where(kl > 1.5 * target_kl, 2 * factor, jnp.where(kl < target_kl / 1.5, factor / 2, factor))
        return jnp.clip(factor, 2.0**-20, 2.0**20)

    apply.__name__ = name_of(estimator)
    return RunningEstimator(lambda: jnp.ones(()), declare(apply, estimator), after)


def _plain(estimator: EstimatorFn, wrapper: str) -> None:
    if isinstance(estimator, RunningEstimator):
        raise ValueError(
            f"{wrapper} takes an EstimatorFn, and {name_of(estimator)} remembers; wrap it the other way round"
        )


def _kl(metrics: dict[str, Array], estimator: EstimatorFn) -> Array:
    if "kl" not in metrics:
        raise ValueError(f"estimator {name_of(estimator)!r} has no metric 'kl' to go by; let its loss return one")
    return metrics["kl"]

"""Estimators that watch the KL divergence: they stop early, or adapt a penalty."""

import math
from typing import Annotated, Any, overload

import jax.numpy as jnp

from pgjax.declarations import Role
from pgjax.hyperparameters import Bound, NonNegative, by_role, declare, hyperparameters, name_of
from pgjax.running import around, running, settled, shown
from pgjax.types import Array, Batch, EstimatorFn, Policy, PyTree, Running


@overload
def early_stopping(estimator: EstimatorFn) -> EstimatorFn: ...


@overload
def early_stopping(estimator: Running) -> Running: ...


def early_stopping(estimator: EstimatorFn | Running) -> Any:
    """The same, ending an update at the first minibatch whose mean KL is above `stop_kl`; inf never does.

    The step of that minibatch isn't made. The KL is the metric `kl` of the loss, as `losses.ppo_clip` has it: from
    the policy that acted to the one before the step.
    """
    inner = running(estimator)

    def stopping(
        states: tuple[PyTree],
        key: Array,
        policy: Policy,
        params: PyTree,
        batch: Batch,
        *,
        stop_kl: Annotated[Bound, Role.STOP_KL] = math.inf,
        **hypers: Any,
    ) -> tuple[tuple[PyTree], tuple[PyTree, dict[str, Array]]]:
        state, (gradient, metrics) = inner.apply(states[0], key, policy, params, batch, **hypers)
        return (state,), (gradient, {**metrics, "stop": _kl(metrics, estimator) > stop_kl})

    stopping.__name__ = name_of(estimator)
    return around(stopping, estimator)


def adaptive_kl(estimator: EstimatorFn | Running) -> Running:
    """The same with a coefficient of the KL penalty, `kl_coef`, that doubles or halves after each update.

    Schulman et al. 2017, sec. 4: doubled where the mean KL of the last epoch is above 1.5 `target_kl`, halved where
    it is below `target_kl` / 1.5; `kl_coef` is what it begins with, and the metric `penalty` what it is. The factor
    stays within 2^-20 and 2^20. The KL is that before each step of the last epoch, the paper's that after the last.
    """
    inner, coef = running(estimator), by_role(estimator).get(Role.KL_COEF)
    if coef is None:
        raise ValueError(
            f"adaptive_kl needs a loss with a coefficient of its KL, such as kl_coef: Annotated[float, Role.KL_COEF]; "
            f"{name_of(estimator)} has none"
        )

    def init(*arguments: Any) -> tuple[Array, PyTree]:
        return jnp.ones(()), inner.init(*arguments)

    def apply(
        state: tuple[Array, PyTree],
        key: Array,
        policy: Policy,
        params: PyTree,
        batch: Batch,
        *,
        target_kl: Annotated[NonNegative, Role.TARGET_KL] = 0.01,
        **hypers: Any,
    ) -> tuple[tuple[Array, PyTree], tuple[PyTree, dict[str, Array]]]:
        del target_kl
        factor, memory = state
        hypers[coef] = factor * hypers.get(coef, hyperparameters(estimator)[coef])
        memory, (gradient, metrics) = inner.apply(memory, key, policy, params, batch, **hypers)
        return (factor, memory), (gradient, {**metrics, "penalty": hypers[coef]})

    def after(
        state: tuple[Array, PyTree], metrics: dict[str, Array], *, target_kl: float = 0.01, **hypers: Any
    ) -> tuple[Array, PyTree]:
        (factor, memory), kl = state, _kl(metrics, estimator)
        factor = jnp.where(kl > 1.5 * target_kl, 2 * factor, jnp.where(kl < target_kl / 1.5, factor / 2, factor))
        return jnp.clip(factor, 2.0**-20, 2.0**20), settled(inner, memory, metrics, **hypers)

    apply.__name__ = name_of(estimator)
    return Running(init, declare(apply, estimator), after, lambda state: shown(inner, state[1]))


def _kl(metrics: dict[str, Array], estimator: Any) -> Array:
    if "kl" not in metrics:
        raise ValueError(f"estimator {name_of(estimator)!r} has no metric 'kl' to go by; let its loss return one")
    return metrics["kl"]

"""An estimator in; the same estimator of those steps alone that the advantage selected out."""

from typing import Any, overload

import jax.numpy as jnp

from pgjax.errors import told
from pgjax.hyperparameters import name_of
from pgjax.running import around, running
from pgjax.types import Array, Batch, EstimatorFn, Policy, PyTree, Running


@overload
def selected(estimator: EstimatorFn) -> EstimatorFn: ...


@overload
def selected(estimator: Running) -> Running: ...


def selected(estimator: EstimatorFn | Running) -> Any:
    """The same of the steps that `batch.extra` selects, [T, B] or [N] of bool, as `advantages.dynamic_sampling` does.

    The others count as steps behind an end do: not at all, in means neither. The metric `selected` is the share of the
    steps that is left.
    """
    inner = running(estimator)

    def selecting(
        states: tuple[PyTree], key: Array, policy: Policy, params: PyTree, batch: Batch, **hypers: Any
    ) -> tuple[tuple[PyTree], tuple[PyTree, dict[str, Array]]]:
        mask = batch.trajectory.mask
        if getattr(batch.extra, "shape", None) != mask.shape:
            raise ValueError(
                f"selected: the advantage selects no steps, its extra is {told(batch.extra)}; give one that returns "
                "(advantage, target, bool of each step), such as advantages.dynamic_sampling"
            )
        kept = mask * batch.extra
        batch = batch._replace(trajectory=batch.trajectory._replace(mask=kept))
        state, (gradient, metrics) = inner.apply(states[0], key, policy, params, batch, **hypers)
        return (state,), (gradient, {**metrics, "selected": jnp.sum(kept) / jnp.maximum(jnp.sum(mask), 1.0)})

    selecting.__name__ = name_of(estimator)
    return around(selecting, estimator)

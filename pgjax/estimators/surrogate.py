"""A Batch in, a gradient of the policy's parameters out.

Each function here is an EstimatorFn `(key, policy, params, batch, **hypers) -> (gradient, metrics)`;
the gradient is that of a loss, so an optimiser descends it.
"""

import functools
from collections.abc import Callable
from typing import Annotated, Any, overload

import jax
import jax.numpy as jnp

from pgjax.declarations import Role
from pgjax.estimators.noise import gradient_noise
from pgjax.estimators.pieces import (
    REDUCTIONS,
    column_pieces,
    counted,
    row_pieces,
    share_of_mean,
    sum_packed,
    sum_pieces,
    sum_rows,
    take,
)
from pgjax.hyperparameters import name_of
from pgjax.losses.contract import checked_loss, is_by_step
from pgjax.plugs import check_plug
from pgjax.running import around, running
from pgjax.types import Array, Batch, EstimatorFn, LossFn, Policy, PyTree, Running


@overload
def surrogate(loss: LossFn, reduce: str = "step") -> EstimatorFn: ...


@overload
def surrogate(loss: Running, reduce: str = "step") -> Running: ...


def surrogate(loss: LossFn | Running, reduce: str = "step") -> Any:
    """Lift a loss per step to an estimator: differentiate its reduction over the steps that count.

    Args:
      loss: a LossFn; its hyperparameters become the estimator's, which remembers if the loss does.
      reduce: "step", the mean over steps, as actor-critic methods have it; "episode", the sum over
        time averaged over episodes, the unbiased REINFORCE; "episode_mean", the mean over each episode's steps
        averaged over episodes, as GRPO has it. The first divides by the number of steps,
        which the actions decide: over many episodes it tends to J's gradient over the mean length,
        over few it is biased. The last weighs an episode by one over its length, which is biased too.

    The estimator has two hyperparameters of its own: `normalize_advantage`, which gives the advantages
    of each batch (with minibatches: of each minibatch) mean 0 and standard deviation 1; and `noise`, whose metrics say
    how noisy the gradient is, see `noise.gradient_noise`, for a second gradient's time. A sample is an environment's
    episode with "episode" and "episode_mean", else a step that counts: rows are taken for independent, columns of
    neighbouring environments are independent whatever the steps in each.

    On a CPU a batch is taken in pieces where the loss is `losses.by_step`, by a loop that can't be differentiated
    once more in reverse.
    """
    if reduce not in REDUCTIONS:
        raise ValueError(f"surrogate: reduce must be one of {', '.join(REDUCTIONS)}; got {reduce!r}")
    check_plug("loss", loss)
    inner, by_step = running(loss), is_by_step(loss) and not isinstance(loss, Running)

    def estimator(
        states: tuple[PyTree],
        key: Array,
        policy: Policy,
        params: PyTree,
        batch: Batch,
        *,
        normalize_advantage: Annotated[bool, Role.NORMALIZE] = False,
        noise: Annotated[bool, Role.NOISE] = False,
        **hypers: Any,
    ) -> tuple[tuple[PyTree], tuple[PyTree, dict[str, Array]]]:
        del key
        mask = batch.trajectory.mask
        if reduce != "step" and mask.ndim != 2:
            raise ValueError(
                f"surrogate(reduce={reduce!r}) needs whole episodes [T, B], got rows {mask.shape}; "
                "use rollout='episodes' or num_minibatches=1"
            )
        batch = counted(batch, normalize_advantage)
        total = jnp.maximum(jnp.sum(mask), 1.0)
        scale = total if reduce == "step" else mask.shape[1]
        alone = by_step and policy.by_observation and reduce != "episode_mean"
        pieces = row_pieces(mask.shape) if alone else 1
        columns = column_pieces(batch) if by_step and policy.whole_episodes else 1

        def objective(params, batch):
            mask = batch.trajectory.mask
            state, output = inner.apply(states[0], policy.evaluate(params, batch.trajectory), batch, **hypers)
            per_step, metrics = checked_loss(loss, output, mask.shape)
            if reduce == "episode_mean":
                per_step = per_step / jnp.maximum(jnp.sum(mask, axis=0, keepdims=True), 1.0)
            value = jnp.sum(jnp.where(mask > 0, per_step, 0.0)) / scale
            means = {name: share_of_mean(x, mask, total) for name, x in metrics.items()}
            return value, ({"loss": value, **means}, state)

        gradient = functools.partial(jax.grad(objective, has_aux=True), params)
        if columns > 1:
            found, (metrics, state) = _sum_columns(gradient, batch, columns)
        elif pieces == 1:
            found, (metrics, state) = gradient(batch)
        elif reduce == "episode":
            found, (metrics, state) = sum_packed(gradient, batch)
        else:
            found, (metrics, state) = sum_pieces(gradient, batch, pieces)
        if noise:
            size = _steps if reduce == "step" else _episodes
            metrics = {**metrics, **gradient_noise(lambda part: gradient(part)[0], found, batch, size)}
        return (state,), (found, metrics)

    estimator.__name__ = name_of(loss)
    return around(estimator, loss)


def _steps(batch: Batch) -> Array:
    return jnp.sum(batch.trajectory.mask)


def _episodes(batch: Batch) -> Array:
    return jnp.float32(batch.trajectory.mask.shape[1])


def _sum_columns(gradient: Callable[[Batch], PyTree], batch: Batch, columns: int) -> PyTree:
    """The sum of gradient(piece) over equal pieces of the batch's columns."""
    index = jnp.arange(batch.trajectory.mask.shape[1]).reshape(columns, -1)
    return sum_rows(lambda n: gradient(take(batch, n, by_column=True)), index, lambda *_: jnp.bool_(True))

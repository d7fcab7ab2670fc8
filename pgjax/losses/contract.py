"""The contract of a loss: one number per step, and declared names of metrics."""

from typing import Any

import jax.numpy as jnp

from pgjax.declarations import RESERVED, Plug, Trait, having, traits_of
from pgjax.errors import told
from pgjax.hyperparameters import name_of
from pgjax.types import Array, LossFn, Running


def by_step(loss: Plug) -> Plug:
    """Declare that a step's loss and metrics depend on that step alone: a large batch may be taken in pieces.

    On a CPU the gradient then takes two thirds of the time. Without it a loss is given its whole batch at once.
    """
    return having(loss, Trait.BY_STEP)


def is_by_step(loss: LossFn | Running) -> bool:
    """Whether the loss was declared so, whatever hyperparameters were bound since."""
    return Trait.BY_STEP in traits_of(loss)


def checked_loss(loss: LossFn | Running, output: Any, shape: tuple[int, ...]) -> tuple[Array, dict[str, Array]]:
    """What a loss returned, checked at trace time against the shape of the batch, [T, B] or [N]."""
    name, axes = name_of(loss), "[T, B]" if len(shape) == 2 else "[N]"
    if not (isinstance(output, tuple) and len(output) == 2 and isinstance(output[1], dict)):
        raise TypeError(
            f"loss {name!r} returned {told(output)}, expected (one loss per step, dict of metrics); return loss, {{}}"
        )
    per_step, metrics = output
    if jnp.shape(per_step) != shape:
        fix = "" if jnp.shape(per_step) else "; leave the mean to the estimator"
        raise ValueError(
            f"loss {name!r} returned shape {jnp.shape(per_step)}, expected one loss per step, {axes} = {shape}{fix}"
        )
    if not jnp.issubdtype(jnp.result_type(per_step), jnp.floating):
        raise TypeError(f"loss {name!r} returned {jnp.result_type(per_step)} numbers, expected real ones")
    for metric, value in metrics.items():
        if metric in RESERVED:
            raise ValueError(f"loss {name!r}: metric {metric!r} is a name of the pipeline's own; rename it")
        number = isinstance(value, (int, float)) or hasattr(value, "shape")
        if not number or jnp.shape(value) not in ((), shape):
            got = f"has shape {jnp.shape(value)}" if number else f"is {told(value)}"
            raise ValueError(
                f"loss {name!r}: metric {metric!r} {got}, expected a scalar or one value per step, {shape}; "
                "take its mean, or leave it out"
            )
    return per_step, metrics

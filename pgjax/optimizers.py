"""Optimiser plugs: hyperparameters in, an optax transformation out; built inside the traced program."""

import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pgjax.hyperparameters import LEAST, NonNegative, Positive, Probability, Range, declare, name_of
from pgjax.types import PyTree


class Finishing(NamedTuple):
    """An optax transformation whose parameters to evaluate and to keep are others than those that learn."""

    init: Callable[[PyTree], PyTree]
    update: Callable[..., tuple[PyTree, PyTree]]  # (gradient, state, params, value=...) -> (updates, state)
    final: Callable[[PyTree, PyTree], PyTree]  # (params, state) -> params


def adam(
    *,
    learning_rate: Positive = 3e-4,
    max_grad_norm: Annotated[float, Range(LEAST, math.inf)] = 0.5,
    eps: NonNegative = 1e-5,
    warmup_steps: NonNegative = 0.0,
    anneal_steps: Annotated[float, Range(1, math.inf)] = math.inf,
) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015) on gradients clipped to a global norm; inf turns clipping off.

    Args:
      learning_rate: above 0 for a run; 1e-30 changes no weight, for a policy that stays as it is as a control.
      warmup_steps: gradient steps over which the learning rate rises linearly from 0, for its moments to settle.
      anneal_steps: gradient steps over which the learning rate falls linearly to 0; inf keeps it as it is.
    """

    def rate(count):
        warm = jnp.minimum(1.0, (count + 1) / jnp.maximum(warmup_steps, 1.0))
        return learning_rate * warm * jnp.maximum(0.0, 1 - count / anneal_steps)

    return optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.adam(rate, eps=eps))


def sgd(
    *, learning_rate: Positive = 1e-2, max_grad_norm: Annotated[float, Range(LEAST, math.inf)] = math.inf
) -> optax.GradientTransformation:
    """Plain stochastic gradient descent on gradients clipped to a global norm; inf turns clipping off."""
    return optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.sgd(learning_rate))


def averaged(optimizer: Callable[..., Any]) -> Callable[..., Finishing]:
    """The same, with an exponential mean of the parameters to evaluate and to keep (Polyak & Juditsky 1992).

    The policy that acts and learns is the last, not the mean. Its hyperparameters are those of `optimizer` and
    `decay`, the weight of the mean so far after each gradient step.
    """

    def finishing(*, decay: Probability = 0.99, **hypers: Any) -> Finishing:
        inner = optax.with_extra_args_support(optimizer(**hypers))

        def init(params: PyTree) -> PyTree:
            return inner.init(params), jax.tree.map(jnp.copy, params)  # a donated array may be given only once

        def update(gradient: PyTree, state: PyTree, params: PyTree, **extra: Any) -> tuple[PyTree, PyTree]:
            updates, following = inner.update(gradient, state[0], params, **extra)
            moved = optax.apply_updates(params, updates)
            return updates, (following, optax.incremental_update(moved, state[1], 1 - decay))

        return Finishing(init, update, lambda params, state: state[1])

    finishing.__name__ = f"averaged_{name_of(optimizer)}"
    return declare(finishing, optimizer)


OPTIMIZERS = {"adam": adam, "sgd": sgd}

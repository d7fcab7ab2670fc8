"""Optimiser plugs: hyperparameters in, an optax transformation out; built inside the traced program."""

import math
from typing import Annotated

import jax.numpy as jnp
import optax

from pgjax.hyperparameters import LEAST, NonNegative, Positive, Range


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


OPTIMIZERS = {"adam": adam, "sgd": sgd}

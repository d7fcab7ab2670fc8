"""Optimiser plugs: hyperparameters in, an optax transformation out; built inside the traced program."""

import jax.numpy as jnp
import optax


def adam(
    *,
    learning_rate: float = 3e-4,
    max_grad_norm: float = 0.5,
    eps: float = 1e-5,
    anneal_steps: float = float("inf"),
) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015) on gradients clipped to a global norm; inf turns clipping off.

    Args:
      anneal_steps: gradient steps over which the learning rate falls linearly to 0; inf keeps it as it is.
    """
    rate = lambda count: learning_rate * jnp.maximum(0.0, 1 - count / anneal_steps)  # noqa: E731
    return optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.adam(rate, eps=eps))


def sgd(*, learning_rate: float = 1e-2, max_grad_norm: float = float("inf")) -> optax.GradientTransformation:
    """Plain stochastic gradient descent on gradients clipped to a global norm; inf turns clipping off."""
    return optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.sgd(learning_rate))


OPTIMIZERS = {"adam": adam, "sgd": sgd}

"""Estimates of the KL divergence from samples (k1, k2, k3; Schulman 2020)."""

import jax.numpy as jnp

from pgjax.types import Array

KL = ("k1", "k2", "k3")


def kl_estimate(log_prob: Array, reference: Array, kind: str) -> Array:
    """Estimates of KL(pi || reference) at actions of pi (Schulman 2020, Approximating KL divergence).

    With x = log reference - log pi: k1 = -x, k2 = x^2 / 2, k3 = e^x - 1 - x; the means of k1 and k3 are the KL.
    k3 is constant above x = 20, so an action that pi has given up can't overflow.

    Args:
      log_prob, reference: of the same actions, any shape, which is that of the result.
    """
    if kind not in KL:
        raise ValueError(f"reference_kl must be one of {', '.join(KL)}; got {kind!r}")
    x = reference - log_prob
    return {"k1": -x, "k2": 0.5 * x**2, "k3": jnp.expm1(jnp.minimum(x, 20.0)) - jnp.minimum(x, 20.0)}[kind]

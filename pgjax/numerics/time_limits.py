"""The discount that follows a step: 0 after an end of the environment's own, gamma at a time limit."""

import jax.numpy as jnp

from pgjax.types import Array


def discounts(terminated: Array, truncated: Array, discount: Array) -> tuple[Array, Array]:
    """The time-limit rule, in the one place where it is written.

    Returns:
      bootstrap: gamma (1 - terminated): the weight of V'_t. A truncated episode bootstraps from
        the observation before the reset; a terminated one never does; both at once is terminated.
      carry: gamma (1 - (terminated or truncated)): the weight of what the recursion brings from
        t + 1, which belongs to another episode wherever this one ended.
    """
    # A Python float is weak: it takes the dtype of what it meets, float64 included.
    bootstrap = jnp.where(terminated, 0.0, discount)
    carry = jnp.where(terminated | truncated, 0.0, discount)
    return bootstrap, carry

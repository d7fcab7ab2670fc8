"""Time limits: `cut` ends a step at one, and `discounts` gives the discount that follows the step.

The discount is 0 after an end of the environment's own, and gamma at a time limit.
"""

from typing import Any

import jax.numpy as jnp

from pgjax.types import Array, Step


def cut(seen: Step, time: Any, limit: int) -> Step:
    """The step, truncated too where it is the last that the limit allows; never truncated where terminated.

    Args:
      seen: a step of one environment or of many, in JAX or numpy arrays.
      time: [] or [B] int: the number of steps of the episode before this one.
      limit: the most steps of an episode, as `Env.max_steps`.
    """
    return seen._replace(truncated=(seen.truncated | (time + 1 >= limit)) & ~seen.terminated)


def discounts(terminated: Array, truncated: Array, discount: Array | float) -> tuple[Array, Array]:
    """The weights of the value ahead and of the return ahead: the time-limit rule, written here alone.

    Returns:
      bootstrap: gamma (1 - terminated): the weight of V'_t. A truncated episode bootstraps from
        the observation before the reset; a terminated one never does; both at once is terminated.
      carry: gamma (1 - (terminated or truncated)): the weight of what the recursion brings from
        t + 1, which belongs to another episode wherever this one ended.
    """
    # A Python float is weak: it takes the dtype of the other operand, float64 included.
    bootstrap = jnp.where(terminated, 0.0, discount)
    carry = jnp.where(terminated | truncated, 0.0, discount)
    return bootstrap, carry

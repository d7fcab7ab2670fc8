"""Returns and advantages, computed from rewards and values [T, ...].

Every function is elementwise over the axes after T, in float32 or float64. In the equations,
gamma is the discount, r_t = reward[t], V_t = value[t] and V'_t = next_value[t], the value of the
observation that the action at t led to, taken before any reset.
"""

import jax
import jax.numpy as jnp

from pgjax.numerics.time_limits import discounts
from pgjax.types import Array


def _backward(decay: Array, increment: Array, last: Array) -> Array:
    """x_t = increment_t + decay_t x_{t+1}, with x_T = last."""

    def step(x, inputs):
        decay, increment = inputs
        x = increment + decay * x
        return x, x

    return jax.lax.scan(step, last, (decay, increment), reverse=True)[1]


def discounted_return(
    reward: Array, terminated: Array, truncated: Array, discount: Array | float, next_value: Array | None = None
) -> Array:
    """Monte-Carlo return G_t = r_t + gamma G_{t+1} to the end of the episode (Sutton & Barto 2018, eq. 3.9).

    With `next_value`, an episode that was truncated or reaches the end of the array is completed by
    its value, G_t = r_t + gamma V'_t; without it, the return sums the observed rewards only.
    """
    bootstrap, carry = discounts(terminated, truncated, discount)
    if next_value is None:
        return _backward(carry, reward, jnp.zeros_like(reward[0]))
    open_end = jnp.where(truncated, bootstrap * next_value, 0.0)
    return _backward(carry, reward + open_end, next_value[-1].astype(reward.dtype))


def lambda_return(
    reward: Array,
    next_value: Array,
    terminated: Array,
    truncated: Array,
    discount: Array | float,
    lambda_: Array | float,
) -> Array:
    """G_t = r_t + gamma ((1 - lambda) V'_t + lambda G_{t+1}) (Sutton & Barto 2018, eq. 12.18)."""
    bootstrap, carry = discounts(terminated, truncated, discount)
    cut = jnp.where(terminated | truncated, 0.0, lambda_)
    return _backward(carry * lambda_, reward + bootstrap * (1 - cut) * next_value, next_value[-1])


def gae(
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Array,
    truncated: Array,
    discount: Array | float,
    lambda_: Array | float,
) -> Array:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16).

    A_t = delta_t + gamma lambda A_{t+1}, with delta_t = r_t + gamma V'_t - V_t.
    """
    bootstrap, carry = discounts(terminated, truncated, discount)
    delta = reward + bootstrap * next_value - value
    return _backward(carry * lambda_, delta, jnp.zeros_like(delta[0]))


def n_step_return(
    reward: Array,
    next_value: Array,
    terminated: Array,
    truncated: Array,
    discount: Array | float,
    n: int,
) -> Array:
    """G_t = r_t + gamma r_{t+1} + ... + gamma^n V'_{t+n-1} (Sutton & Barto 2018, eq. 7.1).

    The sum is shorter where the episode or the array ends before t + n.
    """
    if n < 1:
        raise ValueError(f"n_step_return: n must be 1 or more, got {n}")
    bootstrap, carry = discounts(terminated, truncated, discount)
    one_step = reward + bootstrap * next_value
    # The last row of the array has no successor: it bootstraps, as an ended episode does.
    ended = (terminated | truncated).at[-1].set(True)

    def extend(_, g):
        following = jnp.concatenate([g[1:], g[-1:]])
        return jnp.where(ended, one_step, reward + carry * following)

    return jax.lax.fori_loop(0, n - 1, extend, one_step)


def v_trace(
    log_rho: Array,
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Array,
    truncated: Array,
    discount: Array | float,
    lambda_: Array | float = 1.0,
    clip_rho: Array | float = 1.0,
    clip_c: Array | float = 1.0,
) -> tuple[Array, Array]:
    """V-trace targets v_t and advantages rho_t (r_t + gamma v_{t+1} - V_t) (Espeholt et al. 2018, eq. 1).

    log_rho is the log-ratio of the evaluated to the behaving policy, [T, ...].
    v_t = V_t + rho_t delta_t + gamma c_t (v_{t+1} - V'_t), with rho_t and c_t clipped ratios.
    """
    bootstrap, carry = discounts(terminated, truncated, discount)
    rho = jnp.minimum(jnp.exp(log_rho), clip_rho)
    c = lambda_ * jnp.minimum(jnp.exp(log_rho), clip_c)
    delta = rho * (reward + bootstrap * next_value - value)
    correction = _backward(carry * c, delta, jnp.zeros_like(delta[0]))
    following = jnp.concatenate([correction[1:], jnp.zeros_like(correction[:1])])
    # The value after the step is V'_t, corrected where the episode goes on.
    advantage = rho * (reward + bootstrap * next_value + carry * following - value)
    return value + correction, advantage


def differential_return(reward: Array, gain: Array, next_value: Array, lambda_: Array | float) -> Array:
    """Average-reward lambda-return: G_t = r_t - gain + (1 - lambda) V'_t + lambda G_{t+1}.

    For continuing problems (Sutton & Barto 2018, eq. 10.9): no discount and no ends.
    """
    increment = reward - gain + (1 - lambda_) * next_value
    return _backward(jnp.full_like(increment, lambda_), increment, next_value[-1])


def taken(action_value: Array, action: Array) -> Array:
    """q(s_t, a_t), [...]: the entries of action values [..., A] at actions [...]."""
    return jnp.take_along_axis(action_value, action[..., None], axis=-1)[..., 0]

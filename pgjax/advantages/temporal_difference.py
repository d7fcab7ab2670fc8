"""Advantages that bootstrap from the critic: GAE, V-trace, TD(0), n-step returns and Q(lambda)."""

from typing import Annotated

import jax
import jax.numpy as jnp

from pgjax.declarations import Role, in_order
from pgjax.hyperparameters import Bound, Probability, Range
from pgjax.numerics import returns, time_limits
from pgjax.numerics.masked import normalized
from pgjax.types import Array, Evaluation, Trajectory


@in_order
def gae(
    trajectory: Trajectory,
    now: Evaluation,
    *,
    discount: Annotated[Probability, Role.DISCOUNT] = 0.99,
    gae_lambda: Probability = 0.95,
    normalize: Annotated[bool, Role.NORMALIZE] = False,
) -> tuple[Array, Array]:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16); target A_t + V_t.

    Args:
      normalize: subtract the mean and divide by the standard deviation over the whole batch; biased. The
        estimators' `normalize_advantage` does so in each minibatch.
    """
    advantage = returns.gae(
        trajectory.reward,
        now.value,
        now.next_value,
        trajectory.terminated,
        trajectory.truncated,
        discount,
        gae_lambda,
    )
    target = advantage + now.value
    if normalize:
        advantage = normalized(advantage, trajectory.mask, jnp.maximum(jnp.abs(now.value), jnp.abs(target)))
    return advantage, target


@in_order
def v_trace(
    trajectory: Trajectory,
    now: Evaluation,
    *,
    discount: Annotated[Probability, Role.DISCOUNT] = 0.99,
    v_trace_lambda: Probability = 1.0,
    clip_rho: Annotated[Bound, Role.RATIOS] = 1.0,
    clip_c: Bound = 1.0,
) -> tuple[Array, Array]:
    """V-trace (Espeholt et al. 2018, sec. 4): A_t = rho_t (r_t + gamma v_{t+1} - V_t), target v_t.

    rho = min(clip_rho, pi / b), of the policy that learns to that which acted, is in the advantage already: use it
    with `losses.policy_gradient`, not with a loss of ratios, which would correct twice. Where both policies are
    the same and v_trace_lambda is 1, v_t is the n-step return.
    """
    log_rho = jax.lax.stop_gradient(now.log_prob - trajectory.log_prob)
    target, advantage = returns.v_trace(
        jnp.where(trajectory.mask > 0, log_rho, 0.0),
        trajectory.reward,
        now.value,
        now.next_value,
        trajectory.terminated,
        trajectory.truncated,
        discount,
        v_trace_lambda,
        clip_rho,
        clip_c,
    )
    return advantage, target


def td(
    trajectory: Trajectory, now: Evaluation, *, discount: Annotated[Probability, Role.DISCOUNT] = 0.99
) -> tuple[Array, Array]:
    """One-step temporal difference: A_t = r_t + gamma V'_t - V_t (Sutton & Barto 2018, sec. 13.5)."""
    bootstrap, _ = time_limits.discounts(trajectory.terminated, trajectory.truncated, discount)
    target = trajectory.reward + bootstrap * now.next_value
    return target - now.value, target


@in_order
def n_step(
    trajectory: Trajectory,
    now: Evaluation,
    *,
    discount: Annotated[Probability, Role.DISCOUNT] = 0.99,
    n: Annotated[int, Range(1)] = 5,
) -> tuple[Array, Array]:
    """n-step return minus value (Mnih et al. 2016, sec. 4)."""
    target = returns.n_step_return(
        trajectory.reward, now.next_value, trajectory.terminated, trajectory.truncated, discount, n
    )
    return target - now.value, target


@in_order
def q_lambda(
    trajectory: Trajectory,
    now: Evaluation,
    *,
    discount: Annotated[Probability, Role.DISCOUNT] = 0.99,
    q_lambda: Probability = 0.65,
) -> tuple[Array, Array]:
    """Q(lambda) (Peng & Williams 1994): G_t = r_t + gamma (lambda G_{t+1} + (1 - lambda) max_a q(s_{t+1}, a)).

    The target is G_t, the advantage G_t - max_a q(s_t, a); `algorithms.pqn` learns by it. An action that is not
    greedy cuts no trace. max_a q is the value of a greedy policy, as pqn's is; another policy's value is its mean over
    actions, and this is then expected SARSA(lambda).
    """
    ends = (trajectory.terminated, trajectory.truncated)
    target = returns.lambda_return(trajectory.reward, now.next_value, *ends, discount, q_lambda)
    return target - now.value, target

"""`monte_carlo`: the advantage that is the return of the rewards minus a baseline, and the critic's target."""

from typing import Annotated

import jax
import jax.numpy as jnp

from pgjax.advantages.baselines import BASELINES, Fitted, Sample
from pgjax.advantages.returns import from_the_start
from pgjax.declarations import Role
from pgjax.hyperparameters import Finite, Probability
from pgjax.numerics import returns, running_moments
from pgjax.numerics.masked import normalized
from pgjax.types import Array, Evaluation, Running, Trajectory


def _monte_carlo(
    state: running_moments.Moments,
    trajectory: Trajectory,
    now: Evaluation,
    *,
    discount: Annotated[Probability, Role.DISCOUNT] = 0.99,
    reward_to_go: Annotated[bool, Role.REWARD_TO_GO] = True,
    gamma_t: Annotated[bool, Role.GAMMA_T] = False,
    baseline: Annotated[str, Role.BASELINE] = "none",
    constant: Finite = 0.0,
    normalize: Annotated[bool, Role.NORMALIZE] = False,
    bootstrap: bool = False,
    importance: Annotated[bool, Role.IMPORTANCE] = False,
) -> tuple[running_moments.Moments, tuple[Array, Array]]:
    """Monte-Carlo return minus a baseline: the weights of REINFORCE (Williams 1992, eq. 11).

    Args:
      reward_to_go: weigh each action by the rewards after it, G_t; otherwise by the return of the whole episode, G_0,
        discounted from its start (in a stream: from its first step in the array).
      gamma_t: multiply by gamma^t: needed for the gradient of the discounted J (Sutton & Barto 2018, sec. 13.3),
        commonly left out. G_0 counts the discount from the start already, so it is refused there.
      baseline: the name of a row of `BASELINES` that trains. "running_mean" depends on the actions of the batch,
        which makes a bias of order 1 / count.
      constant: the number of baseline="constant".
      normalize: subtract the mean and divide by the standard deviation over the batch; biased.
      bootstrap: complete a truncated episode by the critic's value. Otherwise the return is that of the rewards within
        the time limit, and J is the return within it.
      importance: correct for another policy b having acted: the states by the product of the ratios rho = pi / b before
        a step, the rewards after it by G_t = r_t + gamma rho_{t+1} G_{t+1}, per decision (Precup, Sutton & Singh
        2000, eq. 4). The loss corrects by the action's own ratio, which is missing from the critic's target, so the
        critic is that of actions drawn from b and then pi. In a stream, steps before the array are not corrected for.

    The critic's target is the return; with a baseline that uses no critic it is the critic's own value, so that there
    is nothing to learn.

    Raises:
      ValueError: for an unknown baseline, or options that contradict each other.
    """
    _check(baseline, reward_to_go, gamma_t, importance)
    mask, ended = trajectory.mask, trajectory.terminated | trajectory.truncated
    before, after = _ratios(trajectory, now, ended) if importance else (1.0, 1.0)
    to_go = returns.discounted_return(
        trajectory.reward,
        trajectory.terminated,
        trajectory.truncated,
        discount * after,
        now.next_value if bootstrap else None,
    )
    weight = to_go if reward_to_go else from_the_start(to_go, trajectory.time)
    state = running_moments.update(state, weight, mask)
    row = BASELINES[baseline]
    sample = Sample(weight, not reward_to_go, trajectory, now, constant, state.mean, Fitted.none())
    advantage = before * (weight - row.value(sample))
    if normalize:
        advantage = normalized(advantage, mask, jnp.abs(before * weight))
    if gamma_t:
        advantage = advantage * discount ** trajectory.time.astype(advantage.dtype)
    return state, (advantage, to_go if row.uses_critic else now.value)


monte_carlo = Running(init=lambda *_: running_moments.empty(0.0), apply=_monte_carlo)


def _check(baseline: str, reward_to_go: bool, gamma_t: bool, importance: bool) -> None:
    names = [name for name, row in BASELINES.items() if row.trains]
    if baseline not in names:
        raise ValueError(f"monte_carlo: baseline must be one of {', '.join(names)}; got {baseline!r}")
    if gamma_t and not reward_to_go:
        raise ValueError("monte_carlo: gamma_t=True needs reward_to_go=True; G_0 is discounted already")
    if importance and not reward_to_go:
        raise ValueError("monte_carlo: importance=True needs reward_to_go=True; ratios correct decision by decision")


def _ratios(trajectory: Trajectory, now: Evaluation, ended: Array) -> tuple[Array, Array]:
    """The product of pi / b over the steps before each in its episode, and the ratio of the step after; [T, B]."""
    rho = jax.lax.stop_gradient(jnp.exp(now.log_prob - trajectory.log_prob))
    rho = jnp.where(trajectory.mask > 0, rho, 1.0)  # after an end the product would go on, out of range
    one = jnp.ones_like(rho[:1])
    after = jnp.where(ended, 1.0, jnp.concatenate([rho[1:], one]))

    def step(product, inputs):
        rho, time = inputs
        product = jnp.where(time == 0, 1.0, product)
        return product * rho, product

    return jax.lax.scan(step, one[0], (rho, trajectory.time))[1], after

"""The average-reward setting: problems that go on for ever, without discount; differential advantages out.

Where an episode terminates, the next start follows, one step like any other: the gain is then the reward of an episode
over its length (the renewal theorem), and where every step pays the same, as in CartPole, every policy has that gain.
A time limit is no end: temporal differences bootstrap there as everywhere, and no sum of rewards crosses it. Each
advantage is a plug: keyword-only arguments are hyperparameters.
"""

from typing import Annotated

import jax.numpy as jnp

from pgjax.declarations import Role, in_order
from pgjax.hyperparameters import NonNegative, Range
from pgjax.numerics import returns
from pgjax.numerics.masked import mean
from pgjax.types import Array, Evaluation, Running, Trajectory


def _differential(
    gain: Array, trajectory: Trajectory, now: Evaluation, *, gain_rate: Annotated[NonNegative, Role.GAIN_RATE] = 0.01
) -> tuple[Array, tuple[Array, Array]]:
    """Differential temporal difference, its own estimate of the gain as memory (Sutton & Barto 2018, sec. 13.6).

    A_t = delta_t = r_t - eta + V'_t - V_t, then eta moves by gain_rate times the mean of delta; target
    r_t - eta + V'_t. Where the episode ended, V'_t must be that of the start that follows: learners give it where an
    advantage has a hyperparameter of `Role.GAIN_RATE`, by `pieces.continued`.
    """
    target = _target(gain, trajectory, now)
    delta = target - now.value
    return gain + gain_rate * mean(delta, trajectory.mask), (delta, target)


def _relative(
    gain: Array, trajectory: Trajectory, now: Evaluation, *, gain_rate: Annotated[NonNegative, Role.GAIN_RATE] = 0.01
) -> tuple[Array, tuple[Array, Array]]:
    """What a critic of relative action values says: A_t = q(s_t, a_t) - sum_b pi(b | s_t) q(s_t, b).

    Its target is r_t - eta + sum_b pi(b | s') q(s', b) (expected Sarsa, differential: Sutton & Barto 2018,
    sec. 6.6 and 10.3), s' the start that follows where the episode ended, as in `differential`, and eta moves by
    gain_rate times the mean of target - q. Needs
    config.critic = "action_value" and the critic's loss `action_value_error`.
    """
    if isinstance(now.action_value, tuple):
        raise ValueError("relative needs a critic of action values; set config.critic='action_value'")
    q = returns.taken(now.action_value, trajectory.action)
    target = _target(gain, trajectory, now)
    return gain + gain_rate * mean(target - q, trajectory.mask), (q - now.value, target)


differential = Running(init=lambda *_: jnp.zeros(()), apply=_differential)


relative = Running(init=lambda *_: jnp.zeros(()), apply=_relative)


@in_order
def relative_return(
    trajectory: Trajectory,
    now: Evaluation,
    *,
    length: Annotated[int, Range(1)] = 32,
    baseline: Annotated[str, Role.BASELINE] = "none",
) -> tuple[Array, Array]:
    """Simulated rollouts: G_t = sum_{k < length} (r_{t+k} - gain), the gain that of the rollout itself.

    Each environment is a rollout and has its own empirical gain, its mean reward; several are averaged by
    several environments. Cut at `length`, biased by what the chain still remembers then; and short by the
    share length / steps, since the gain that is taken off holds the rewards that followed too. The last
    length - 1 steps, whose sums the rollout doesn't hold, count for nothing, and the others for more. Where an
    episode terminates, the sum goes on with the one that follows; at a time limit, or after whole episodes, it stops
    unfinished: for limits much longer than `length`.

    Args:
      length: below the rollout's steps: over all of them the centred rewards sum to 0, whatever the rewards were.
      baseline: "none", or "value", the learned critic.
    """
    steps = trajectory.reward.shape[0]
    if not 1 <= length < steps:
        fix = f"length must lie in [1, {steps - 1}], below the num_steps of a rollout; got {length}"
        raise ValueError(f"relative_return: {fix if steps > 1 else 'a rollout of one step is its own gain; use more'}")
    if baseline not in ("none", "value"):
        raise ValueError(f"relative_return: baseline must be none or value; got {baseline!r}")
    mask = trajectory.mask
    gain = jnp.sum(mask * trajectory.reward, axis=0, keepdims=True)
    gain = gain / jnp.maximum(jnp.sum(mask, axis=0, keepdims=True), 1.0)
    centred = trajectory.reward - gain
    last = jnp.concatenate([mask[1:], jnp.ones_like(mask[:1])]) == 0  # nothing follows in whole episodes
    ends = (trajectory.terminated & last, trajectory.truncated)
    g = returns.n_step_return(centred, jnp.zeros_like(centred), *ends, 1.0, length)
    whole = (jnp.arange(steps) <= steps - length)[:, None]
    advantage = g - now.value if baseline == "value" else g
    advantage = jnp.where(whole, advantage, 0.0) * (steps / (steps - length + 1))
    return advantage, jnp.where(whole, g, now.value) if baseline == "value" else now.value


def _target(gain: Array, trajectory: Trajectory, now: Evaluation) -> Array:
    return trajectory.reward - gain + now.next_value

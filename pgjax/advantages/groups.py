"""Whole episodes that began alike in; each weighed against the others of its group.

B environments are B / K groups of K neighbours that began from the same key: K samples for each prompt. The learner
begins them so where the advantage has a hyperparameter of `Role.SAMPLES`, which is K. Critics learn nothing here.
Returns of a group that differ by rounding alone are equal: their advantages are 0.
"""

from typing import Annotated

import jax
import jax.numpy as jnp

from pgjax.advantages.baselines import mean_of_others
from pgjax.declarations import Role, whole_episodes
from pgjax.hyperparameters import Probability, Range
from pgjax.numerics import masked
from pgjax.types import Array, Evaluation, Trajectory

Samples = Annotated[int, Range(1), Role.SAMPLES]
Discount = Annotated[Probability, Role.DISCOUNT]


@whole_episodes
def leave_one_out(
    trajectory: Trajectory, now: Evaluation, *, samples: Samples = 8, discount: Discount = 1.0
) -> tuple[Array, Array]:
    """RLOO: the return minus the mean of the K - 1 others (Kool et al. 2019; Ahmadian et al. 2024, eq. 8).

    The baseline knows nothing of the episode that it is taken from, so the gradient stays unbiased.
    """
    total, _, deviation = _grouped(trajectory, samples, discount, "leave_one_out")
    return _spread(jnp.where(deviation == 0, 0.0, total - mean_of_others(total)), trajectory), now.value


@whole_episodes
def group_relative(
    trajectory: Trajectory, now: Evaluation, *, samples: Samples = 8, discount: Discount = 1.0, divide: bool = True
) -> tuple[Array, Array]:
    """GRPO: the return minus the mean of its group, over its standard deviation (Shao et al. 2024, sec. 4.1.2).

    Args:
      divide: whether by the standard deviation, of the population. Without it this is (K - 1) / K times
        `leave_one_out`, as in Liu et al. 2025 (Dr. GRPO); with it, prompts that mostly fail or mostly succeed count
        more. Where a return is 1 with probability p, else 0, the gradient is that of p times
        E[sqrt(q (1 - q))] / (p (1 - p)), K q ~ Binomial(K, p).
    """
    _, centred, deviation = _grouped(trajectory, samples, discount, "group_relative")
    return _spread(_scaled(centred, deviation, divide), trajectory), now.value


@whole_episodes
def dynamic_sampling(
    trajectory: Trajectory, now: Evaluation, *, samples: Samples = 8, discount: Discount = 1.0, divide: bool = True
) -> tuple[Array, Array, Array]:
    """`group_relative`; and as `batch.extra`, for `estimators.selected`, whether a step's group has unlike returns.

    DAPO leaves groups out that are all right or all wrong (Yu et al. 2025, eq. 11). They draw others until the batch
    is full; here it is smaller.
    """
    _, centred, deviation = _grouped(trajectory, samples, discount, "dynamic_sampling")
    unlike = jnp.broadcast_to(deviation != 0, centred.shape)  # true of NaN, so that a failure is seen
    return _spread(_scaled(centred, deviation, divide), trajectory), now.value, _spread(unlike, trajectory)


@whole_episodes
def opo(
    trajectory: Trajectory, now: Evaluation, *, samples: Samples = 8, discount: Discount = 1.0
) -> tuple[Array, Array]:
    """The return minus the mean of its group weighed by length, sum_j l_j R_j / sum_j l_j (Hao et al. 2025, OPO).

    It is the baseline of least variance where the squared norm of an episode's score is proportional to its length l.
    With l_i / L, its share of the group's steps, this is 1 - l_i / L times the return minus such a mean of the others.
    So the gradient is (K - 1) / K of the exact one where all lengths are equal, and otherwise biased: longer episodes
    count less. It is meant for one gradient step for each batch.
    """
    total, _, deviation = _grouped(trajectory, samples, discount, "opo")
    length = jnp.sum(trajectory.mask, axis=0).reshape(-1, samples)
    baseline = jnp.sum(length * total, axis=1, keepdims=True) / jnp.sum(length, axis=1, keepdims=True)
    return _spread(jnp.where(deviation == 0, 0.0, total - baseline), trajectory), now.value


def _scaled(centred: Array, deviation: Array, divide: bool) -> Array:
    return centred / jnp.where(deviation == 0, 1.0, deviation) if divide else centred


def _grouped(trajectory: Trajectory, samples: int, discount: float, name: str) -> tuple[Array, Array, Array]:
    """[B / K, K] returns of whole episodes, the same minus their group's mean, and its deviation [B / K, 1]."""
    envs = trajectory.mask.shape[1]
    if samples < 2 or envs % samples:
        raise ValueError(f"{name}: samples must be 2 or more and divide num_envs={envs}, got {samples}")
    counted = jnp.where(trajectory.mask > 0, trajectory.reward, 0.0)
    terms = trajectory.mask * discount ** trajectory.time.astype(jnp.float32) * counted
    total, size = (_summed(x).reshape(-1, samples) for x in (terms, jnp.abs(terms)))
    around = lambda x, size: masked.standard(x, jnp.ones_like(x), size, len(terms))  # noqa: E731
    centred, deviation = jax.vmap(around)(total, size)
    return total, centred, deviation[:, None]


def _summed(x: Array) -> Array:
    """The sum over the first axis, in pairs: its rounding doesn't grow with the number of terms."""
    while len(x) > 1:
        half = len(x) // 2
        x = jnp.concatenate([x[:half] + x[half : 2 * half], x[2 * half :]])
    return x[0]


def _spread(x: Array, trajectory: Trajectory) -> Array:
    return jnp.broadcast_to(x.reshape(-1), trajectory.mask.shape)

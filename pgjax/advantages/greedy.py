"""Whole episodes and a way to play on in; each weighed against the greedy episode from the same start."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pgjax.advantages.groups import Discount
from pgjax.declarations import plays, whole_episodes
from pgjax.types import Array, Evaluation, Trajectory


@whole_episodes
@plays
def remax(
    play: Callable[..., Array], trajectory: Trajectory, now: Evaluation, *, discount: Discount = 1.0
) -> tuple[Array, Array]:
    """R - R', R the return and R' that of the greedy episode from the same start (Li et al. 2023, ReMax).

    R' knows nothing of the actions that were sampled, so the gradient stays unbiased. It takes one more episode for
    each, and neither a critic nor a group. The critic learns nothing here.
    """
    rewards = discount ** trajectory.time.astype(jnp.float32) * trajectory.reward
    total = jnp.sum(jnp.where(trajectory.mask > 0, rewards, 0.0), axis=0)
    greedy = play(jax.tree.map(lambda x: x[:1], trajectory), greedy=True, discount=discount)[0]
    return jnp.broadcast_to(total - greedy, trajectory.mask.shape), now.value

"""VinePPO: the value of every state is the mean return of episodes played on from it; there is no critic.

A_t = r_t + gamma V(s_{t+1}) - V(s_t), V(s) the mean over `vines` episodes by the policy itself, 0 behind an end.
Kazemnejad et al. 2024, VinePPO: refining credit assignment in RL training of LLMs; their states are the steps of a
chain of thought, here each token begins one.

    pgjax train rloo copying --advantage experiments/methods/vineppo.py:vineppo --set num_epochs=2 discount=0.9,1
"""

from typing import Annotated

import jax.numpy as jnp

from pgjax import Range, Role
from pgjax.declarations import plays, whole_episodes
from pgjax.hyperparameters import Probability
from pgjax.numerics import time_limits


@whole_episodes
@plays
def vineppo(
    play,
    trajectory,
    now,
    *,
    discount: Annotated[Probability, Role.DISCOUNT] = 1.0,
    vines: Annotated[int, Range(1)] = 9,
):
    """The one-step advantage by values that are played out; [T, B]."""
    value = play(trajectory, samples=vines, discount=discount)
    _, carry = time_limits.discounts(trajectory.terminated, trajectory.truncated, discount)
    following = jnp.concatenate([value[1:], jnp.zeros_like(value[:1])])
    return trajectory.reward + carry * following - value, now.value

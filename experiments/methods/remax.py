"""ReMax: REINFORCE whose baseline is the return of the greedy answer to the same prompt.

A = R(answer) - R(greedy answer), the same for all tokens. No critic, and one answer for each prompt besides the greedy
one. Li et al. 2023, ReMax: a simple, effective, and efficient reinforcement learning method for aligning large language
models.

    pgjax train rloo copying --advantage experiments/methods/remax.py:remax --set num_minibatches=1 clip_eps=0.1,0.2
"""

import jax
import jax.numpy as jnp

from pgjax.declarations import plays, whole_episodes


@whole_episodes
@plays
def remax(play, trajectory, now):
    """The return less that of the greedy episode from the same start; [T, B]."""
    reached = jnp.sum(jnp.where(trajectory.mask > 0, trajectory.reward, 0.0), axis=0)
    greedy = play(jax.tree.map(lambda x: x[:1], trajectory), greedy=True)[0]
    return jnp.broadcast_to(reached - greedy, trajectory.mask.shape), now.value

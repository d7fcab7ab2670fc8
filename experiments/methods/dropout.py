"""Consistent dropout: the units that are left out when the policy acts are left out when it learns from it.

One draw of units for all steps of an update, so that the ratio of the learning policy to the acting one is 1 before the
first gradient step, and its gradient has no bias. After training none is left out. Hausknecht & Wagener 2022,
Consistent dropout for policy gradient reinforcement learning; theirs draws for each step anew and keeps the draws.

    pgjax train ppo CartPole-v1 --policy experiments/methods/dropout.py:dropout --set clip_eps=0.1,0.2
"""

import math

from flax import nnx

from pgjax import policies
from pgjax.policies.networks import ActorHead
from pgjax.policies.torsos import Torso


class _Network(nnx.Module):
    def __init__(self, env, config, *, rngs):
        self.torso = Torso(math.prod(env.observation_space.shape), config, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.actor_head = ActorHead(config.hidden[-1], env.action_space, rngs=rngs)
        self.critic_head = nnx.Linear(config.hidden[-1], 1, rngs=rngs)

    def __call__(self, obs):
        x = self.dropout(self.torso(obs))
        return self.actor_head(x), self.critic_head(x)[..., 0]


def dropout(env, config):
    """A torso shared by actor and critic, a tenth of its last units left out."""
    return policies.from_nnx(lambda rngs: _Network(env, config, rngs=rngs))

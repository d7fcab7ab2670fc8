"""Batch normalisation in a policy: by the running statistics when it acts and learns, renewed after each update.

(x - mean) / sqrt(variance + 1e-5) times a scale plus an offset that learn; mean and variance move by a tenth towards
those of each batch. Ioffe & Szegedy 2015, Batch normalization; learning with the running ones is Ioffe 2017, Batch
renormalization, without its correction: so the policy that learns is the one that acted.

    pgjax train ppo CartPole-v1 --policy experiments/methods/batch_norm.py:batch_norm --set clip_eps=0.1,0.2
"""

import math

from flax import nnx

from pgjax import policies
from pgjax.policies.networks import ActorHead
from pgjax.policies.torsos import Torso


class _Network(nnx.Module):
    def __init__(self, env, config, *, rngs):
        self.torso = Torso(math.prod(env.observation_space.shape), config, rngs=rngs)
        self.norm = nnx.BatchNorm(config.hidden[-1], momentum=0.9, rngs=rngs)
        self.actor_head = ActorHead(config.hidden[-1], env.action_space, rngs=rngs)
        self.critic_head = nnx.Linear(config.hidden[-1], 1, rngs=rngs)

    def __call__(self, obs):
        x = self.norm(self.torso(obs))
        return self.actor_head(x), self.critic_head(x)[..., 0]


def batch_norm(env, config):
    """A torso shared by actor and critic, its output normalised."""
    return policies.from_nnx(lambda rngs: _Network(env, config, rngs=rngs))

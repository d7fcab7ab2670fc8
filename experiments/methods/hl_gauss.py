"""HL-Gauss: the critic classifies returns into bins, taught by the histogram of a Gaussian around its target.

Cross-entropy of softmax(logits) to p_i = (F(e_{i+1}) - F(e_i)) / (F(e_m) - F(e_0)), F the distribution function of
N(target, sigma^2) and e the bins' edges; the value is sum_i softmax(logits)_i centre_i. Farebrother et al. 2024, Stop
regressing: training value functions via classification for scalable deep RL. sigma is `spread` bins wide.

    pgjax train experiments/methods/hl_gauss.py:hl_gauss CartPole-v1 --set spread=0.5,0.75
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pgjax import Algorithm, Config, advantages, estimators, losses, optimizers, policies
from pgjax.algorithms.roster import Entry
from pgjax.hyperparameters import Positive
from pgjax.policies.networks import MLP

_EDGES = np.linspace(-120.0, 120.0, 102)  # returns outside count as the nearest bin


class _Network(MLP):
    def __init__(self, env, config, *, rngs):
        super().__init__(env, config, rngs=rngs)
        self.critic_head = nnx.Linear(config.hidden[-1], len(_EDGES) - 1, rngs=rngs)

    def __call__(self, obs):
        torso = self.actor_torso if self.critic_torso is None else self.critic_torso
        logits = self.through(torso, self.critic_head, self.features(obs))
        return self.actor(obs), jax.nn.softmax(logits) @ jnp.float32(_EDGES[1:] + _EDGES[:-1]) / 2, logits


@losses.by_step
def _cross_entropy(now, batch, *, spread: Positive = 0.75):
    edges = jnp.asarray(_EDGES, batch.target.dtype)
    above = jnp.subtract.outer(jnp.clip(batch.target, edges[0], edges[-1]), edges)
    below = jax.scipy.stats.norm.cdf(-above / (spread * (edges[1] - edges[0])))
    histogram = jnp.diff(below) / (below[..., -1:] - below[..., :1])
    return -jnp.sum(histogram * jax.nn.log_softmax(now.extra), axis=-1), {}


def _policy(env, config):
    return policies.from_nnx(lambda rngs: _Network(env, config, rngs=rngs), constants=False)


hl_gauss = Entry(
    Algorithm(
        advantages.gae,
        estimators.surrogate(losses.actor_critic(losses.ppo_clip, _cross_entropy)),
        optimizers.adam,
    ),
    Config(num_envs=8, num_steps=64, num_epochs=4, num_minibatches=4),
    policy=_policy,
)

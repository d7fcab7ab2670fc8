"""Phasic policy gradient: now and then the actor's torso learns values, while a KL keeps its policy as it is.

Between the phases PPO, in them (V_a - target)^2 / 2 + clone_coef KL(old || new) + (V - target)^2 / 2, on all the
batches since the last phase; V is the critic's, V_a is a second head on the actor's torso. Cobbe et al. 2021, Phasic
policy gradient, algorithm 1.

    pgjax train experiments/methods/ppg.py:ppg CartPole-v1 --set clone_coef=0.3,1
"""

from flax import nnx

from pgjax import Algorithm, Config, advantages, estimators, losses, optimizers, policies
from pgjax.algorithms import auxiliary
from pgjax.algorithms.roster import Entry
from pgjax.hyperparameters import NonNegative, bind
from pgjax.policies.networks import MLP


class _Network(MLP):
    def __init__(self, env, config, *, rngs):
        super().__init__(env, config, rngs=rngs)
        self.second_head = nnx.Linear(config.hidden[-1], 1, rngs=rngs)

    def __call__(self, obs):
        x = self.actor_torso(self.features(obs))
        return self.actor_head(x), self.critic(obs), self.second_head(x)[..., 0]


@losses.by_step
def _joint(now, batch, *, clone_coef: NonNegative = 1.0):
    error = (now.extra - batch.target) ** 2 + (now.value - batch.target) ** 2
    kl = batch.then.dist.kl(now.dist)
    return error / 2 + clone_coef * kl, {"kl": kl}


def _policy(env, config):
    return policies.from_nnx(lambda rngs: _Network(env, config, rngs=rngs))


ppg = Entry(
    Algorithm(
        advantages.gae,
        bind(estimators.surrogate(losses.actor_critic(losses.ppo_clip)), normalize_advantage=True, entropy_coef=0.01),
        bind(optimizers.adam, learning_rate=1e-3),
        auxiliary(estimators.surrogate(_joint)),
    ),
    Config(num_envs=8, num_steps=64, num_minibatches=4),
    policy=_policy,
)

"""Direct advantage estimation: the network learns advantages themselves, centred under the policy that acted.

(sum_{k=t}^{T-1} gamma^{k-t} (r_k - A(s_k, a_k)) + gamma^{T-t} V_old(s_T) - V(s_t))^2 / 2 for each t up to the next end
T, where A = f - sum_a pi_old(a | s) f(s, a) and f is the network's third output; the policy follows PPO with A_old.
Pan et al. 2022, Direct advantage estimation.

    pgjax train experiments/methods/dae.py:dae CartPole-v1 --set discount=0.97,0.99
"""

import jax.numpy as jnp
from flax import nnx

from pgjax import Algorithm, Config, estimators, losses, optimizers, policies
from pgjax.algorithms.roster import Entry
from pgjax.declarations import in_order
from pgjax.hyperparameters import Probability
from pgjax.numerics.returns import discounted_return, taken
from pgjax.policies.networks import MLP


class _Network(MLP):
    def __init__(self, env, config, *, rngs):
        super().__init__(env, config, rngs=rngs)
        self.advantage_head = nnx.Linear(config.hidden[-1], env.action_space.n, rngs=rngs)

    def __call__(self, obs):
        torso = self.actor_torso if self.critic_torso is None else self.critic_torso
        return self.actor(obs), self.critic(obs), self.through(torso, self.advantage_head, self.eye(obs))


def _centred(f, dist, action):
    return taken(f - jnp.sum(jnp.exp(dist.log_probs()) * f, axis=-1, keepdims=True), action)


def _advantage(trajectory, now):
    return _centred(now.extra, now.dist, trajectory.action), now.value


@in_order
def _error(now, batch, *, discount: Probability = 0.99):
    trajectory = batch.trajectory
    left = trajectory.reward - _centred(now.extra, batch.then.dist, trajectory.action)
    ends = (trajectory.terminated, trajectory.truncated)
    return 0.5 * (discounted_return(left, *ends, discount, batch.then.next_value) - now.value) ** 2, {}


def _policy(env, config):
    if not hasattr(env.action_space, "n"):
        raise ValueError(f"dae needs a finite number of actions, got {env.action_space!r}")
    return policies.from_nnx(lambda rngs: _Network(env, config, rngs=rngs), constants=False)


dae = Entry(
    Algorithm(_advantage, estimators.surrogate(losses.actor_critic(losses.ppo_clip, _error)), optimizers.adam),
    Config(num_envs=8, num_steps=64, num_epochs=4, num_minibatches=4),
    policy=_policy,
)

"""PQN: Q(lambda) with layer normalisation in place of replay and target network, and epsilon-greedy actors.

(q(s_t, a_t) - G_t)^2 / 2, G_t = r_t + gamma (lambda G_{t+1} + (1 - lambda) max_a q(s_{t+1}, a)). Gallici et al. 2024,
Simplifying deep temporal difference learning. They anneal epsilon and use RAdam.

    pgjax train experiments/methods/pqn.py:pqn CartPole-v1 --set q_lambda=0.65,0.95
"""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx

from pgjax import Algorithm, Config, Role, estimators, losses, numerics, optimizers, policies
from pgjax.algorithms.roster import Entry
from pgjax.declarations import in_order
from pgjax.hyperparameters import Probability
from pgjax.policies.distributions import Categorical


class _Network(nnx.Module):
    def __init__(self, env, config, *, rngs):
        self.shape = env.observation_space.shape
        widths = (math.prod(self.shape), *config.hidden)
        self.layers = nnx.List([nnx.Linear(i, o, rngs=rngs) for i, o in zip(widths[:-1], widths[1:], strict=True)])
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for width in config.hidden])
        self.output = nnx.Linear(widths[-1], env.action_space.n, rngs=rngs)

    def __call__(self, obs):
        x = jnp.asarray(obs, jnp.float32).reshape(*obs.shape[: obs.ndim - len(self.shape)], -1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = jax.nn.relu(norm(layer(x)))
        q = self.output(x)
        greedy = jax.nn.one_hot(jnp.argmax(q, axis=-1), q.shape[-1])
        return Categorical(jnp.log(greedy)), jnp.max(q, axis=-1), q


@in_order
def _q_lambda(trajectory, now, *, discount: Annotated[Probability, Role.DISCOUNT] = 0.99, q_lambda: Probability = 0.65):
    ends = (trajectory.terminated, trajectory.truncated)
    target = numerics.returns.lambda_return(trajectory.reward, now.next_value, *ends, discount, q_lambda)
    return target - now.value, target


@losses.by_step
def _error(now, batch):
    return 0.5 * (numerics.returns.taken(now.extra, batch.trajectory.action) - batch.target) ** 2, {}


def _policy(env, config):
    if not hasattr(env.action_space, "n"):
        raise ValueError(f"pqn needs a finite number of actions, got {env.action_space!r}")
    return policies.from_nnx(lambda rngs: _Network(env, config, rngs=rngs), constants=False)


pqn = Entry(
    Algorithm(_q_lambda, estimators.surrogate(_error), optimizers.adam),
    Config(num_envs=16, num_steps=32, num_epochs=2, num_minibatches=4, epsilon=0.1, activation="relu"),
    policy=_policy,
)

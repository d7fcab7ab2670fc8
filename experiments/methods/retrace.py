"""Retrace(lambda): action values from experience of other policies, here of actors that are some updates old.

R_t = r_t + gamma sum_a pi(a | s') q(s', a) + gamma c_{t+1} (R_{t+1} - q(s_{t+1}, a_{t+1})), c = lambda min(1, pi / b):
generalised advantage estimation of q with a lambda for each step. The policy follows q(s, a) - sum_b pi(b | s) q(s, b).
Munos et al. 2016, Safe and efficient off-policy reinforcement learning.

    pgjax train experiments/methods/retrace.py:retrace CartPole-v1 --set retrace_lambda=0.9,1
"""

from typing import Annotated

import jax.numpy as jnp

from pgjax import Algorithm, Config, Role, estimators, losses, optimizers
from pgjax.algorithms.roster import Entry
from pgjax.declarations import in_order
from pgjax.hyperparameters import Probability
from pgjax.numerics import returns


@in_order
def _retrace(
    trajectory, now, *, discount: Annotated[Probability, Role.DISCOUNT] = 0.99, retrace_lambda: Probability = 1.0
):
    q, ends = returns.taken(now.action_value, trajectory.action), (trajectory.terminated, trajectory.truncated)
    c = retrace_lambda * jnp.minimum(1.0, jnp.exp(now.log_prob - trajectory.log_prob))
    ahead = jnp.concatenate([c[1:], c[-1:]])
    target = q + returns.gae(trajectory.reward, q, now.next_value, *ends, discount, ahead)
    return q - now.value, target


retrace = Entry(
    Algorithm(
        _retrace,
        estimators.surrogate(losses.actor_critic(losses.policy_gradient, losses.action_value_error)),
        optimizers.adam,
    ),
    Config(num_envs=16, num_steps=16, lag=4, critic="action_value"),
)

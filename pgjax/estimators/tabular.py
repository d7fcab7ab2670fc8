"""The exact gradient on an enumerable environment, as an estimator."""

from typing import Any

import jax.numpy as jnp

from pgjax.envs.observations import state_index
from pgjax.estimators.surrogate import surrogate
from pgjax.hyperparameters import declare
from pgjax.losses.policy import policy_gradient
from pgjax.numerics.relative_values import relative_values
from pgjax.types import Array, Batch, EstimatorFn, LossFn, Policy, PyTree


def exact_relative(transition: Array, reward: Array, loss: LossFn = policy_gradient) -> EstimatorFn:
    """`surrogate(loss)` with the exact relative action values of the policy as it is, in a tabular MDP.

    grad gain = sum_s d(s) sum_a grad pi(a | s) q(s, a) (Sutton & Barto 2018, sec. 13.6), the sum over states and
    actions taken over those visited: of d, where the stream is stationary. The batch's advantages play no part.
    The estimator's own hyperparameter `baseline` takes the state's value off: the same mean, less noise.

    Args:
      transition, reward: [S, A, S] and [S, A]; the observation is the state's index. Where episodes end, take those of
        `oracle.continuing`: the next start follows an end.
    """
    lifted = surrogate(loss)

    def exact_relative(
        key: Array, policy: Policy, params: PyTree, batch: Batch, *, baseline: bool = True, **hypers: Any
    ) -> tuple[PyTree, dict[str, Array]]:
        states = jnp.arange(len(reward))
        dist, _ = policy.act(params, policy.memory(len(reward)), states)
        worth = relative_values(transition, reward, jnp.exp(dist.log_probs()))
        q = worth.action_value - worth.value[:, None] if baseline else worth.action_value
        weight = q[state_index(batch.trajectory.obs), batch.trajectory.action]
        return lifted(key, policy, params, batch._replace(advantage=weight), **hypers)

    return declare(exact_relative, lifted)

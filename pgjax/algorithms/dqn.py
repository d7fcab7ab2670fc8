"""Deep Q-learning: an environment and an Algorithm whose estimator is `dqn` in, a Learner with replay out.

Mnih et al. 2015, Human-level control through deep reinforcement learning; van Hasselt et al. 2016, Deep reinforcement
learning with double Q-learning.
"""

from typing import Annotated, Any

import jax.numpy as jnp

from pgjax.algorithms import replay
from pgjax.algorithms.replay_options import replayed
from pgjax.config import Config
from pgjax.estimators.surrogate import surrogate
from pgjax.hyperparameters import MOST, Probability, Range, declare, hyperparameters, name_of
from pgjax.losses.value import q_error
from pgjax.numerics.returns import taken
from pgjax.policies import action_values, modules
from pgjax.types import (
    Algorithm,
    Array,
    Batch,
    Env,
    EstimatorFn,
    Evaluation,
    Hypers,
    Learner,
    Policy,
    PyTree,
    Trajectory,
)


def annealed(estimator: EstimatorFn) -> EstimatorFn:
    """Add the agent's hyperparameters to the estimator's signature, so that they can be set by name.

    The estimator itself ignores them.

    Those are:
      epsilon_start, epsilon_end, epsilon_steps: the share of uniform actions falls linearly from the first to the
        second over that many environment steps, counted from the first of all.
      double: choose the next action by the network that learns, and value it by the target's.
    """

    def annealing(
        key: Array,
        policy: Policy,
        params: PyTree,
        batch: Batch,
        *,
        epsilon_start: Probability = 1.0,
        epsilon_end: Probability = 0.05,
        epsilon_steps: Annotated[float, Range(1, MOST)] = 10_000.0,
        double: bool = True,
        **hypers: Any,
    ) -> tuple[PyTree, dict[str, Array]]:
        del epsilon_start, epsilon_end, epsilon_steps, double
        return estimator(key, policy, params, batch, **hypers)

    return declare(annealing, estimator)


dqn = annealed(replayed(surrogate(q_error)))


dqn.__name__ = "dqn"


def evaluate(policy: Policy, params: PyTree, targets: PyTree, rows: Trajectory, double: bool) -> Evaluation:
    """What the target is made of: next_value = Q'(s', argmax_a Q(s', a)) (van Hasselt et al. 2016, eq. 4).

    Q is the network that learns, Q' the target's; without `double` it is max_a Q'(s', a) (Mnih et al. 2015).
    """
    now = policy.evaluate(params, rows)
    ahead = rows._replace(obs=rows.next_obs)
    valued = policy.evaluate(targets, ahead)
    # The greedy action is the legal one of the largest value.
    chosen = (policy.evaluate(params, ahead) if double else valued).dist.mode()
    return now._replace(value=taken(now.action_value, rows.action), next_value=taken(valued.action_value, chosen))


def epsilon(env_steps: Array, hypers: Hypers) -> Array:
    """[] the share of uniform actions after so many environment steps."""
    h = hypers.estimator
    done = jnp.clip(env_steps / h["epsilon_steps"], 0.0, 1.0)
    return h["epsilon_start"] + done * (h["epsilon_end"] - h["epsilon_start"])


def make_learner(env: Env, policy: Policy, algorithm: Algorithm, config: Config) -> Learner:
    """The Learner. `policy` is not used: Q-learning has no actor, its own network has one tower.

    Raises:
      ValueError: for a Box of actions.
    """
    del policy
    if not hasattr(env.action_space, "n"):
        raise ValueError(f"dqn needs a finite number of actions, got {env.action_space!r}; use sac")
    greedy = modules.from_nnx(lambda rngs: action_values.Greedy(env, config, rngs=rngs), constants=False)
    options = hyperparameters(algorithm.estimator)
    if missing := [name for name in ("epsilon_start", "epsilon_end", "epsilon_steps", "double") if name not in options]:
        raise ValueError(
            f"estimator {name_of(algorithm.estimator)!r} has no hyperparameter {missing[0]!r}; use dqn.annealed"
        )
    double = options["double"]
    agent = replay.Agent(
        policy=greedy,
        init=lambda key, hypers: greedy.init(key),
        followed=lambda params: params,
        evaluate=lambda key, params, targets, rows, hypers: evaluate(greedy, params, targets, rows, double),
        explore=epsilon,
    )
    return replay.make_learner(env, agent, algorithm, config)

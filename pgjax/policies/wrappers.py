"""Wrappers of a policy: exploration by uniform actions, and observations scaled by their running moments."""

from collections.abc import Callable

from pgjax.numerics.running_moments import Moments, normalize
from pgjax.policies.choices import mixed
from pgjax.policies.distributions import Categorical
from pgjax.types import Array, Policy, PyTree


def exploring(policy: Policy, epsilon: float, legal: Callable[[PyTree], Array] | None = None) -> Policy:
    """A policy that draws a share `epsilon` of its actions uniformly; `evaluate` is that of the original policy.

    It acts by b = (1 - epsilon) pi + epsilon / A, A the number of legal actions. The log_prob of its trajectories is
    b's, so that exp(now.log_prob - trajectory.log_prob) is the importance ratio pi / b.

    Args:
      legal: `observations.legal` of the environment's spaces; None where every action is legal.
    """

    def act(params, memory, obs):
        dist, memory = policy.act(params, memory, obs)
        if not isinstance(dist, Categorical):
            raise ValueError(f"epsilon={epsilon:g} needs a policy over discrete actions, got {type(dist).__name__}")
        return mixed(dist, epsilon, None if legal is None else legal(obs)), memory

    return policy._replace(act=act)


def with_observation_moments(policy: Policy, moments: Moments) -> Policy:
    """The policy on observations that are normalised by `moments`."""

    def seen(trajectory):
        return trajectory._replace(
            obs=normalize(moments, trajectory.obs), next_obs=normalize(moments, trajectory.next_obs)
        )

    def act(params, memory, obs):
        return policy.act(params, memory, normalize(moments, obs))

    def evaluate(params, trajectory):
        return policy.evaluate(params, seen(trajectory))

    variables = policy.variables
    if variables:
        after = variables.after
        variables = variables._replace(after=lambda key, params, held, rows: after(key, params, held, seen(rows)))
    by_step = evaluate if policy.by_observation else None
    return policy._replace(act=act, evaluate=evaluate, stepwise=by_step, variables=variables)

"""`Plugs` and `Sampler`: estimators of the user's own, which are no rows of the grid."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgjax.algorithms.compatibility import checked_advantage, checked_estimate
from pgjax.declarations import Role, Trait, traits_of
from pgjax.estimators import pieces
from pgjax.hyperparameters import by_role, name_of
from pgjax.running import running
from pgjax.types import AdvantageFn, Array, Batch, EstimatorFn, Policy, PyTree, Running, Trajectory
from pgjax.variance.estimators.score_functions import ScoreFunction


class Plugs(NamedTuple):
    """An advantage and an EstimatorFn, measured on the same episodes as the grid.

    Its hyperparameters are its own, the discount too: bind the one that J has. With a critic that shares
    parameters with the actor, the critic's gradient counts as bias of the policy's.

    Attributes:
      advantage: an AdvantageFn, or one that remembers, in its first state.
      estimator: the gradient of a loss, or one that remembers, in its first state; its negative is measured.
      batch: episodes of one estimate.
    """

    advantage: AdvantageFn | Running
    estimator: EstimatorFn | Running
    batch: int = 1


class Sampler(NamedTuple):
    """Any `gradient(key, params)` that estimates the gradient of J, a tree like params; it samples for itself."""

    gradient: Callable[[Array, PyTree], PyTree]
    batch: int = 1  # how many episodes one call takes: its share in a comparison at equal cost


Estimator = ScoreFunction | Plugs | Sampler


def estimates(
    key: Array, name: str, estimator: Plugs | Sampler, policy: Policy, params: PyTree, trajectory: Trajectory
) -> PyTree:
    """One estimate for each group of `batch` of the C episodes [T, C]: a tree like params, [C / batch, ...]."""
    keys = jax.random.split(key, trajectory.mask.shape[1] // estimator.batch)
    if isinstance(estimator, Sampler):
        return jax.lax.map(lambda key: checked_gradient(name, estimator.gradient(key, params), params), keys)

    def one(inputs):
        key, group = inputs
        return checked_gradient(name, estimate(estimator, key, policy, params, group)[0], params)

    return jax.lax.map(one, (keys, groups(trajectory, estimator.batch)))


def estimate(
    estimator: Plugs, key: Array, policy: Policy, params: PyTree, trajectory: Trajectory, play: Any = None
) -> tuple[PyTree, dict[str, Array]]:
    """Minus the gradient that the plugs give for whole episodes [T, B], and the metrics; in their first state.

    Args:
      play: what an advantage that plays is given: see `declarations.plays`.
    """
    now = policy.evaluate(params, trajectory)
    advantage, plug = running(estimator.advantage), running(estimator.estimator)
    if Role.GAIN_RATE in by_role(estimator.advantage):
        now = pieces.continued(policy, params, trajectory, now, ())
    batch = Batch(trajectory, now.value, now.value, now.value, now)
    playing = (play,) if Trait.PLAYS in traits_of(estimator.advantage) else ()
    state = advantage.init(key, policy, params, batch)
    output = advantage.apply(state, *playing, trajectory, now)[1]
    weight, target, extra = checked_advantage(name_of(estimator.advantage), output, trajectory.mask)
    batch = Batch(trajectory, weight, target, now.value, now, extra)
    output = plug.apply(plug.init(key, policy, params, batch), key, policy, params, batch)[1]
    gradient, metrics = checked_estimate(name_of(estimator.estimator), output, params)
    return jax.tree.map(jnp.negative, gradient), metrics


def groups(trajectory: Trajectory, batch: int) -> Trajectory:
    """[G, T, batch, ...] of [T, G x batch, ...]."""

    def split(x):
        return jnp.moveaxis(x.reshape(x.shape[0], -1, batch, *x.shape[2:]), 1, 0)

    found = jax.tree.map(split, trajectory._replace(memory=()))
    return found._replace(memory=jax.tree.map(lambda x: x.reshape(-1, batch, *x.shape[1:]), trajectory.memory))


def checked_gradient(name: str, gradient: PyTree, params: PyTree) -> PyTree:
    """The gradient, if it has the tree and the shapes of the parameters."""
    wanted, found = (jax.tree.map(jnp.shape, tree) for tree in (params, gradient))
    if wanted != found:
        raise ValueError(f"estimator {name!r} must return a tree like params, {wanted}; got {found}")
    return gradient


def describe(estimator: Estimator) -> str:
    """The kind of an estimator, for tables."""
    if isinstance(estimator, ScoreFunction):
        return "grid"
    return name_of(estimator.estimator if isinstance(estimator, Plugs) else estimator.gradient)

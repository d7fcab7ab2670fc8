"""A memory of the latest batches: every update is made on all of them."""

import dataclasses
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from pgjax.algorithms import updates
from pgjax.algorithms.compatibility import checked_advantage
from pgjax.algorithms.phases import joined
from pgjax.config import Config
from pgjax.declarations import Role, Trait, traits_of
from pgjax.estimators import pieces
from pgjax.hyperparameters import Range, by_role, declare, name_of
from pgjax.types import Algorithm, Array, Batch, Hypers, Policy, PyTree, Running, Trajectory


class RecentState(NamedTuple):
    """What `recent` keeps."""

    inner: PyTree  # of the updater that is given all batches at once
    kept: Trajectory  # [batches, T, B, ...] the latest trajectories
    made: Array  # [] int32: updates so far


def recent(updater: updates.MakeUpdater = updates.descent) -> updates.MakeUpdater:
    """An updater with a memory of experience (Peng et al. 2019, Advantage-weighted regression, algorithm 1).

    `updater` is given the latest `batches` batches as one, [T, batches x B], in minibatches of the updates' own size.
    Advantages, targets and values of all of them are computed anew in each update, by the critic as it is before it;
    `batch.then` is what the policy says then. Until so many batches were made, each of those that were stands in as
    often as the others, or once more. The plug's hyperparameters are `batches` and those of `updater`.

    The policy that acted is older there than the one that learns: use a loss for which that makes no difference, as
    `losses.awr`, or one that corrects for it.
    """

    def remembering(
        algorithm: Algorithm,
        config: Config,
        by_column: bool,
        *,
        batches: Annotated[int, Range(1)] = 8,
        **hypers: Any,
    ) -> updates.Updater:
        advantage, name = algorithm.advantage, name_of(algorithm.advantage)
        if isinstance(advantage, Running):
            raise ValueError(f"{name} remembers, and a memory of batches asks it for each of them again; use gae")
        if Trait.PLAYS in traits_of(advantage) or Role.GAIN_RATE in by_role(advantage):
            raise ValueError(f"{name} needs what followed a batch, and a memory of batches keeps none of it; use gae")
        longer = dataclasses.replace(config, num_minibatches=config.num_minibatches * batches)
        inner = updater(algorithm, longer, by_column, **hypers)

        def init(key: Array, policy: Policy, params: PyTree, batch: Any, hypers: Hypers) -> RecentState:
            kept = jax.tree.map(lambda x: jnp.repeat(x[None], batches, axis=0), batch.trajectory)
            whole = jax.tree.map(lambda x: jnp.repeat(x[None], batches, axis=0), batch)
            return RecentState(inner.init(key, policy, params, joined(whole), hypers), kept, jnp.int32(0))

        def apply(
            key: Array, policy: Policy, params: PyTree, state: RecentState, batch: Batch, hypers: Hypers
        ) -> tuple[PyTree, RecentState, dict[str, Array]]:
            kept = jax.tree.map(lambda xs, x: xs.at[state.made % batches].set(x), state.kept, batch.trajectory)
            made = state.made + 1
            places = jnp.arange(batches) % jnp.minimum(made, batches)
            trajectory = joined(jax.tree.map(lambda x: x[places], kept))
            now = pieces.evaluate(policy, params, trajectory)
            output = advantage(trajectory, now, **hypers.advantage)
            weight, target, extra = checked_advantage(name, output, trajectory.mask)
            whole = Batch(trajectory, weight, target, now.value, now, extra)
            params, memory, metrics = inner.apply(key, policy, params, state.inner, whole, hypers)
            return params, RecentState(memory, kept, made), metrics

        return updates.Updater(init, apply, lambda params, state: inner.final(params, state.inner))

    remembering.__name__ = "recent"
    return declare(remembering, updater)

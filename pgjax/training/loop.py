"""The update loop: `train` makes U updates of a Learner, and keeps a lane that is no longer finite as it was."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgjax.numerics import keys
from pgjax.training.evaluation import Along
from pgjax.training.failures import all_finite, selected
from pgjax.types import Array, Hypers, Learner, PyTree


class TrainState(NamedTuple):
    """A learner's state, and how training goes."""

    learner: PyTree
    finite: Array  # [] bool: false from the first update whose parameters are not finite
    updates: Array  # [] int: updates made


def init(key: Array, learner: Learner, hypers: Hypers) -> TrainState:
    """The state before the first update."""
    state = learner.init(jax.random.fold_in(key, keys.INIT), hypers)
    return TrainState(state, jnp.bool_(True), jnp.int32(0))


def train(
    key: Array, learner: Learner, state: TrainState, hypers: Hypers, num_updates: int, along: Along | None = None
) -> tuple[TrainState, dict[str, Array]]:
    """Make `num_updates` updates; metrics are [U].

    The key of update u is fold_in(key, u), counted from the very first: training can be cut into
    segments anywhere, with the same result. An update whose parameters are not finite is undone, and the state is
    frozen from there on: `finite` is false and the metrics are NaN. Only state that a learner has wrapped in
    `failures.Unselected` still changes.

    Args:
      along: further metrics of the state after each update, as `evaluation.along` gives them.
    """

    def update(state, _):
        following, metrics = learner.step(jax.random.fold_in(key, state.updates), state.learner, hypers)
        # Those that act too: an updater may keep others, which a failure needn't reach.
        acting = learner.behaviour(following)[1] if learner.behaviour else ()
        finite = state.finite & all_finite((learner.policy(following)[1], acting))
        kept = selected(finite, following, state.learner)
        if along:
            metrics = metrics | along(key, kept, hypers, state.updates + 1)
        metrics = jax.tree.map(lambda x: jnp.where(finite, x, jnp.nan), metrics)
        return TrainState(kept, finite, state.updates + 1), metrics

    return jax.lax.scan(update, state, length=num_updates)

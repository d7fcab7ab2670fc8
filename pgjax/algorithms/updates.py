"""A batch in, other parameters out: gradient steps over epochs and minibatches, or in order of time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pgjax.algorithms import minibatches
from pgjax.config import Config
from pgjax.estimators import pieces
from pgjax.types import Algorithm, Array, Batch, Hypers, Policy, PyTree, RunningEstimator

Descend = Callable[[Any, Any], tuple[Any, dict[str, Array]]]  # the body of a scan: (carry, inputs)


class Updater(NamedTuple):
    """How a learner goes from one policy to the next; `on_policy.make_learner` does the rest."""

    init: Callable[[PyTree, Hypers], PyTree]  # (params, hypers) -> state
    # (key, policy, params, state, batch [T, B], hypers) -> (params, state, metrics)
    apply: Callable[[Array, Policy, PyTree, PyTree, Batch, Hypers], tuple[PyTree, PyTree, dict[str, Array]]]


MakeUpdater = Callable[[Algorithm, Config, bool], Updater]  # (algorithm, config, by_column)


def descent(algorithm: Algorithm, config: Config, by_column: bool) -> Updater:
    """num_epochs x num_minibatches steps of the optimiser down the estimator's gradient.

    Minibatches are random rows [N], or columns [T, b] with `by_column`. An estimator whose metrics hold `stop`
    ends the update: its gradient is not followed, nor any after it until the next update, and `gradient_steps`
    counts the gradients that were followed.
    """
    estimator = algorithm.estimator
    if not isinstance(estimator, RunningEstimator):
        plain = estimator
        estimator = RunningEstimator(lambda: (), lambda memory, *args, **hypers: plain(*args, **hypers), _same)

    def init(params: PyTree, hypers: Hypers) -> PyTree:
        return algorithm.optimizer(**hypers.optimizer).init(params), estimator.init()

    def apply(
        key: Array, policy: Policy, params: PyTree, state: PyTree, batch: Batch, hypers: Hypers
    ) -> tuple[PyTree, PyTree, dict[str, Array]]:
        transform = algorithm.optimizer(**hypers.optimizer)
        optimizer, memory = state

        def descend(carry, inputs):
            params, optimizer, going = carry
            key, piece = inputs
            gradient, metrics = estimator.apply(memory, key, policy, params, piece, **hypers.estimator)
            updates, following = transform.update(gradient, optimizer, params)
            moved = (optax.apply_updates(params, updates), following)
            metrics = {**metrics, "grad_norm": optax.tree.norm(gradient)}
            if "stop" in metrics:
                going = going & ~metrics.pop("stop")
                moved = jax.tree.map(lambda new, old: jnp.where(going, new, old), moved, (params, optimizer))
                metrics["gradient_steps"] = going.astype(jnp.float32)
            return (*moved, going), metrics

        carry = (params, optimizer, jnp.bool_(True))
        if config.update == "step":
            carry, metrics = _step_by_step(descend, key, carry, batch)
        else:
            keys = jax.random.split(key, config.num_epochs)
            carry, metrics = jax.lax.scan(epochs(descend, batch, config.num_minibatches, by_column), carry, keys)
        last = jax.tree.map(lambda x: jnp.mean(x[-1]), metrics)
        means = {name: (jnp.sum if name == "gradient_steps" else jnp.mean)(x) for name, x in metrics.items()}
        return carry[0], (carry[1], estimator.after(memory, last, **hypers.estimator)), means

    return Updater(init, apply)


def epochs(descend: Descend, batch: Batch, num_minibatches: int, by_column: bool) -> Descend:
    """The body of a scan over keys, one pass over the batch each: `descend(carry, (key, minibatch))`."""
    if num_minibatches == 1:
        return lambda carry, key: descend(carry, (key, batch))
    rows = batch.trajectory.mask.shape[1] if by_column else batch.trajectory.mask.size

    def epoch(carry, key):
        key_shuffle, key_estimate = jax.random.split(key)
        order = minibatches.shuffle(key_shuffle, rows).reshape(num_minibatches, -1)
        keys = jax.random.split(key_estimate, num_minibatches)

        def minibatch(carry, inputs):
            key, index = inputs
            return descend(carry, (key, pieces.take(batch, index, by_column)))

        return jax.lax.scan(minibatch, carry, (keys, order))

    return epoch


def _same(memory: PyTree, metrics: dict[str, Array], **hypers: Any) -> PyTree:
    return memory


def _step_by_step(descend: Descend, key: Array, carry: Any, batch: Batch) -> tuple[Any, dict[str, Array]]:
    """One gradient step for each step of the batch in order of time, [1, B] at once; none after the last end.

    Metrics are [1].
    """
    counts = jnp.any(batch.trajectory.mask > 0, axis=1)
    rows = jax.tree.map(lambda x: x[:, None], batch)

    def step(carry, inputs):
        key, row, counts = inputs
        following, metrics = descend(carry, (key, row))
        return jax.tree.map(lambda new, old: jnp.where(counts, new, old), following, carry), metrics

    carry, metrics = jax.lax.scan(step, carry, (jax.random.split(key, len(counts)), rows, counts))
    sums = {name: jnp.sum(jnp.where(counts, x, 0.0))[None] for name, x in metrics.items()}
    return carry, {name: x if name == "gradient_steps" else x / jnp.sum(counts) for name, x in sums.items()}

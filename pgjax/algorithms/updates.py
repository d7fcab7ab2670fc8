"""A batch in, other parameters out: gradient steps over epochs and minibatches, or in order of time."""

from collections.abc import Callable
from typing import Any, Concatenate, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pgjax.algorithms import minibatches
from pgjax.algorithms.compatibility import checked_estimate
from pgjax.config import Config
from pgjax.errors import told
from pgjax.estimators import pieces
from pgjax.hyperparameters import name_of
from pgjax.running import check_state, running, settled, shown
from pgjax.types import Algorithm, Array, Batch, Hypers, Policy, PyTree, Running

Descend = Callable[[Any, Any], tuple[Any, dict[str, Array]]]  # the body of a scan: (carry, inputs)


class Updater(NamedTuple):
    """How a learner goes from one policy to the next; `on_policy.make_learner` does the rest."""

    # (key, policy, params, batch, hypers) -> state; the batch is zeros in the shapes of those to come, or None
    init: Callable[[Array, Policy, PyTree, Batch | None, Hypers], PyTree]
    # (key, policy, params, state, batch [T, B], hypers) -> (params, state, metrics)
    apply: Callable[[Array, Policy, PyTree, PyTree, Batch, Hypers], tuple[PyTree, PyTree, dict[str, Array]]]
    # (params, state) -> the parameters to evaluate and to keep, where those that learn are others
    final: Callable[[PyTree, PyTree], PyTree] = lambda params, state: params
    shapes: bool = True  # whether `init` looks at the batch


# (algorithm, config, by_column, **hypers) -> Updater, whose hyperparameters are `hypers.updater`. `by_column`: whether
# minibatches are whole columns [T, b]. It is called where an update is traced, as an optimizer is.
MakeUpdater = Callable[Concatenate[Algorithm, Config, bool, ...], Updater]


def made(algorithm: Algorithm, config: Config, by_column: bool, hypers: Hypers | None = None) -> Updater:
    """The updater of an algorithm, `descent` where it has none."""
    make: MakeUpdater = algorithm.updater or descent
    found = make(algorithm, config, by_column, **(hypers.updater if hypers else {}))
    if not isinstance(found, Updater):
        raise TypeError(
            f"updater {name_of(make)!r} returned {told(found)}, expected an Updater; return "
            "algorithms.updates.Updater(init, apply)"
        )
    return found


class DescentState(NamedTuple):
    """What `descent` keeps."""

    optimizer: PyTree
    estimator: PyTree  # of an estimator that remembers, else ()


def descent(algorithm: Algorithm, config: Config, by_column: bool) -> Updater:
    """num_epochs x num_minibatches steps of the optimiser down the estimator's gradient.

    Minibatches are random rows [N], or columns [T, b] with `by_column`. An estimator whose metrics hold `stop`
    ends the update: its gradient is not followed, nor any after it until the next update, and `gradient_steps`
    counts the gradients that were followed. An optimiser that takes `value` is given the loss. Where it has
    `final(params, state)`, as `optimizers.averaged` has, that is what is evaluated and kept.
    """
    estimator = running(algorithm.estimator)

    def transform_of(hypers: Hypers) -> Any:
        transform = algorithm.optimizer(**hypers.optimizer)
        return transform if hasattr(transform, "final") else optax.with_extra_args_support(transform)

    def init(key: Array, policy: Policy, params: PyTree, batch: Batch | None, hypers: Hypers) -> DescentState:
        return DescentState(transform_of(hypers).init(params), estimator.init(key, policy, params, batch))

    def apply(
        key: Array, policy: Policy, params: PyTree, state: PyTree, batch: Batch, hypers: Hypers
    ) -> tuple[PyTree, PyTree, dict[str, Array]]:
        transform = transform_of(hypers)

        def descend(carry, inputs):
            params, state, going = carry
            key, piece = inputs
            memory, output = estimator.apply(state.estimator, key, policy, params, piece, **hypers.estimator)
            check_state(name_of(algorithm.estimator), state.estimator, memory)
            gradient, metrics = checked_estimate(name_of(algorithm.estimator), output, params)
            value = {"value": metrics["loss"]} if "loss" in metrics else {}
            updates, optimizer = transform.update(gradient, state.optimizer, params, **value)
            moved = (optax.apply_updates(params, updates), DescentState(optimizer, memory))
            metrics = {**metrics, "grad_norm": optax.tree.norm(gradient)}
            if "stop" in metrics:
                going = going & ~metrics.pop("stop")
                moved = jax.tree.map(lambda new, old: jnp.where(going, new, old), moved, (params, state))
                metrics["gradient_steps"] = going.astype(jnp.float32)
            return (*moved, going), metrics

        carry = (params, state, jnp.bool_(True))
        if config.update == "step":
            carry, metrics = _step_by_step(descend, key, carry, batch)
        else:
            keys = jax.random.split(key, config.num_epochs)
            carry, metrics = jax.lax.scan(epochs(descend, batch, config.num_minibatches, by_column), carry, keys)
        last = jax.tree.map(lambda x: jnp.mean(x[-1]), metrics)
        means = {name: (jnp.sum if name == "gradient_steps" else jnp.mean)(x) for name, x in metrics.items()}
        params, following, _ = carry
        memory = settled(estimator, following.estimator, last, **hypers.estimator)
        return params, following._replace(estimator=memory), {**means, **shown(estimator, memory)}

    def final(params: PyTree, state: DescentState) -> PyTree:
        # With default hyperparameters: `final` is a function of the state.
        found = getattr(algorithm.optimizer(), "final", None)
        return found(params, state.optimizer) if found else params

    return Updater(init, apply, final, shapes=isinstance(algorithm.estimator, Running))


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

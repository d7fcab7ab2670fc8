"""Auxiliary phases: every so many updates, gradient steps of another kind on all the batches since the last phase."""

import dataclasses
from typing import Annotated, Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from pgjax.algorithms import updates
from pgjax.config import Config
from pgjax.hyperparameters import Range, declare, hyperparameters, name_of
from pgjax.types import Algorithm, Array, Batch, EstimatorFn, Hypers, Policy, PyTree, Running, Trajectory

Kept = TypeVar("Kept", Batch, Trajectory)


class PhaseState(NamedTuple):
    """What `auxiliary` keeps."""

    main: PyTree  # of the updates between the phases
    phase: PyTree  # of the phases, whose optimiser is another
    kept: Batch  # [every, T, B, ...] the latest batches
    made: Array  # [] int32: updates so far


def auxiliary(estimator: EstimatorFn | Running, updater: updates.MakeUpdater = updates.descent) -> updates.MakeUpdater:
    """An updater with auxiliary phases (Cobbe et al. 2021, Phasic policy gradient, algorithm 1).

    After every `every` updates the optimiser makes `phase_epochs` passes over their batches, down the gradient of
    `estimator`, with minibatches of the updates' own size. Its batch is all of them, [T, every x B]; `batch.then` is
    what the policy says of it as the phase begins. The optimiser has a state of its own there. The plug's
    hyperparameters are these two, and those of `estimator` and `updater`; metrics of the phase have the prefix
    `phase_`, and are 0 in updates without one.
    """
    own = hyperparameters(updater)

    def phasic(
        algorithm: Algorithm,
        config: Config,
        by_column: bool,
        *,
        every: Annotated[int, Range(1)] = 16,
        phase_epochs: Annotated[int, Range(1)] = 6,
        **hypers: Any,
    ) -> updates.Updater:
        of_phase = {name: x for name, x in hypers.items() if name not in own}
        main = updater(algorithm, config, by_column, **{name: x for name, x in hypers.items() if name in own})
        longer = dataclasses.replace(config, num_epochs=phase_epochs, num_minibatches=config.num_minibatches * every)
        phase = updates.descent(algorithm._replace(estimator=estimator), longer, by_column)
        asked = lambda hypers: hypers._replace(estimator=of_phase)  # noqa: E731

        def init(key: Array, policy: Policy, params: PyTree, batch: Any, hypers: Hypers) -> PhaseState:
            key_main, key_phase = jax.random.split(key)
            kept = jax.tree.map(lambda x: jnp.repeat(x[None], every, axis=0), batch)
            first = phase.init(key_phase, policy, params, joined(kept), asked(hypers))
            return PhaseState(main.init(key_main, policy, params, batch, hypers), first, kept, jnp.int32(0))

        def apply(
            key: Array, policy: Policy, params: PyTree, state: PhaseState, batch: Batch, hypers: Hypers
        ) -> tuple[PyTree, PhaseState, dict[str, Array]]:
            key_main, key_phase = jax.random.split(key)
            params, inner, metrics = main.apply(key_main, policy, params, state.main, batch, hypers)
            kept = jax.tree.map(lambda xs, x: xs.at[state.made % every].set(x), state.kept, batch)
            made = state.made + 1

            def descend(params: PyTree, memory: PyTree) -> tuple[PyTree, PyTree, dict[str, Array]]:
                whole = joined(kept)
                whole = whole._replace(then=policy.evaluate(params, whole.trajectory))
                return phase.apply(key_phase, policy, params, memory, whole, asked(hypers))

            # A loop of one turn or none: as all lanes have made as many updates, vmap leaves it out in the others,
            # where a `cond` would be computed in every update.
            like = jax.eval_shape(descend, params, state.phase)[2]
            nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
            _, params, memory, found = jax.lax.while_loop(
                lambda carry: carry[0],
                lambda carry: (jnp.bool_(False), *descend(carry[1], carry[2])),
                (made % every == 0, params, state.phase, nothing),
            )
            metrics |= {f"phase_{name}": x for name, x in found.items()}
            return params, PhaseState(inner, memory, kept, made), metrics

        return updates.Updater(init, apply, lambda params, state: main.final(params, state.main))

    phasic.__name__ = f"auxiliary_{name_of(estimator)}"
    return declare(phasic, estimator, updater)


def joined(kept: Kept) -> Kept:
    """Batches or trajectories [every, T, B, ...] as [T, every x B, ...]."""
    if isinstance(kept, Batch):
        others = {name: jax.tree.map(_join, x) for name, x in kept._asdict().items() if name != "trajectory"}
        return Batch(joined(kept.trajectory), **others)
    memory = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), kept.memory)
    return jax.tree.map(_join, kept._replace(memory=()))._replace(memory=memory)


def _join(x: Array) -> Array:
    return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:])

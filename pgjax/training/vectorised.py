"""Training and evaluation of lanes, settings x seeds, as one program.

A lane is one setting with one seed. Lanes never communicate, and every setting gets the same seeds
(common random numbers), so the program is the `vmap` of a single lane's.
"""

import jax
import jax.numpy as jnp

from pgjax import rollout
from pgjax.numerics import keys as reserved
from pgjax.training import evaluation, loop
from pgjax.types import Array, Env, Hypers, Learner, PyTree


def lanes(settings: list[Hypers], seeds: list[int], generator: str | None = None) -> tuple[Array, Hypers]:
    """Keys [L] and Hypers of [L] arrays, L = H x S, the seeds varying fastest.

    Args:
      generator: the `impl` of `jax.random.key`; by default jax's own.
    """
    stacked = jax.tree.map(lambda *x: jnp.repeat(jnp.stack(x), len(seeds), axis=0), *settings)
    keys = jax.vmap(lambda seed: jax.random.key(seed, impl=generator))(
        jnp.tile(jnp.asarray(seeds, jnp.uint32), len(settings))
    )
    return keys, stacked


def init(keys: Array, learner: Learner, hypers: Hypers) -> loop.TrainState:
    """[L] states before the first update."""
    return jax.vmap(lambda key, h: loop.init(key, learner, h))(keys, hypers)


def segment(
    keys: Array,
    learner: Learner,
    states: PyTree,
    hypers: Hypers,
    num_updates: int,
    along: evaluation.Along | None = None,
) -> tuple[PyTree, dict[str, Array]]:
    """`num_updates` updates of every lane; metrics are [L, U]. `along` is as in `loop.train`."""
    return jax.vmap(lambda key, s, h: loop.train(key, learner, s, h, num_updates, along))(keys, states, hypers)


def evaluate(
    keys: Array, env: Env, learner: Learner, states: PyTree, hypers: Hypers, num_episodes: int
) -> dict[str, rollout.Episodes]:
    """Whole episodes of every lane's policy, "stochastic" and "greedy": Episodes of [L, B]."""

    def one(key, state, hypers):
        return evaluation.episodes(evaluation_keys(key), env, learner, state.learner, hypers, num_episodes)

    return jax.vmap(one)(keys, states, hypers)


def evaluation_keys(key: Array) -> Array:
    """[2] keys of a lane's stochastic and greedy episodes."""
    return jax.random.split(jax.random.fold_in(key, reserved.EVALUATE))

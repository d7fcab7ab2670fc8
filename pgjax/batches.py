"""A trajectory or a batch in; its evaluation in cache-sized pieces, a random order, a minibatch out."""

import jax
import jax.numpy as jnp

from pgjax.policies import has_memory
from pgjax.types import Array, Batch, Evaluation, Policy, PyTree, Trajectory


def evaluate(policy: Policy, params: PyTree, trajectory: Trajectory) -> Evaluation:
    """policy.evaluate; on CPU four steps at a time, whose activations stay in the cache (1.6x faster)."""
    steps, chunk = trajectory.reward.shape[0], 4
    if jax.default_backend() != "cpu" or has_memory(policy) or steps % chunk:
        return policy.evaluate(params, trajectory)
    pieces = jax.tree.map(lambda x: x.reshape(steps // chunk, chunk, *x.shape[1:]), trajectory)
    now = jax.lax.map(lambda piece: policy.evaluate(params, piece), pieces)
    return jax.tree.map(lambda x: x.reshape(steps, *x.shape[2:]), now)


def shuffle(key: Array, rows: int) -> Array:
    """A random order of `rows` indices, from one sort of words (random bits, index).

    `random.permutation` takes two sorts of pairs, six to nine times as long. Rows whose random bits
    agree keep their order among themselves, which can only be felt where a minibatch ends: so at
    least 12 of the 32 bits must be random.
    """
    width = (rows - 1).bit_length()
    if width > 20:
        return jax.random.permutation(key, rows)
    bits = jax.random.bits(key, (rows,)) >> width << width
    words = jnp.sort(bits | jnp.arange(rows, dtype=jnp.uint32))
    return (words & jnp.uint32((1 << width) - 1)).astype(jnp.int32)


def take(batch: Batch, index: Array, by_column: bool) -> Batch:
    """Columns [T, b] of a batch [T, B], or rows [n] of the same batch seen as [T B]."""
    trajectory = batch.trajectory
    if by_column:
        memory = jax.tree.map(lambda x: x[index], trajectory.memory)
        taken = jax.tree.map(lambda x: x[:, index], batch._replace(trajectory=trajectory._replace(memory=())))
    else:
        memory = trajectory.memory
        taken = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[index], batch)
    return taken._replace(trajectory=taken.trajectory._replace(memory=memory))

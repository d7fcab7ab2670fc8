"""A trajectory or a batch in; its evaluation in cache-sized pieces, a random order, a minibatch out."""

import jax
import jax.numpy as jnp

from pgjax.loops import remaining, scan_while
from pgjax.policies import by_observation
from pgjax.types import Array, Batch, Evaluation, Policy, PyTree, Trajectory


def evaluate(policy: Policy, params: PyTree, trajectory: Trajectory) -> Evaluation:
    """policy.evaluate of a rollout's every step, once; `next_value` where the world terminated says nothing.

    On CPU four steps at a time, whose activations stay in the cache, and the critic looks again at `next_obs`
    only where an episode was truncated.
    """
    steps, chunk = trajectory.reward.shape[0], 4
    if jax.default_backend() != "cpu" or not by_observation(policy) or steps % chunk:
        return policy.evaluate(params, trajectory)
    pieces = jax.tree.map(lambda x: x.reshape(steps // chunk, chunk, *x.shape[1:]), trajectory)
    ask = lambda _, row: ((), policy.evaluate(params, row[0])._replace(next_value=()))  # noqa: E731
    _, now = scan_while(ask, (), (pieces, remaining(pieces.mask)), lambda _, row: row[1])
    now = jax.tree.map(lambda x: x.reshape(steps, *x.shape[2:]), now)
    return now._replace(next_value=_next_value(policy, params, trajectory, now.value))


def _next_value(policy: Policy, params: PyTree, trajectory: Trajectory, value: Array) -> Array:
    """value[t + 1], and the critic's word on next_obs[t] where an episode was truncated or the batch ends."""
    steps = jnp.arange(value.shape[0])[:, None]

    def ask(carry):
        left, found = carry
        t = jnp.argmax(left, axis=0)  # [B] the first of each environment that is left
        rows = jax.tree.map(lambda x: x[t, jnp.arange(t.size)][None], trajectory)
        asked = policy.evaluate(params, rows).next_value
        here = left & (steps == t[None])
        return left & ~here, jnp.where(here, asked, found)

    left = (trajectory.truncated | (steps == len(steps) - 1)) & ~trajectory.terminated
    found = jnp.concatenate([value[1:], value[-1:]])
    return jax.lax.while_loop(lambda carry: jnp.any(carry[0]), ask, (left, found))[1]


def continued(policy: Policy, params: PyTree, trajectory: Trajectory, now: Evaluation, stream: PyTree) -> Evaluation:
    """The same, next_value being that of the start that follows wherever the world terminated.

    Args:
      stream: RolloutState after the trajectory, or () where it was whole episodes: as nothing followed there, it is
        the mean value of their starts, which were drawn alike.
    """
    if stream:
        again = jax.tree.map(lambda x: x[None], (stream.obs, stream.obs, stream.time))
        last = jax.tree.map(lambda x: x[-1:], trajectory._replace(memory=()))
        no, one = jnp.zeros_like(last.terminated), jnp.ones_like(last.mask)
        last = last._replace(obs=again[0], next_obs=again[1], time=again[2], terminated=no, truncated=no, mask=one)
        value = policy.evaluate(params, last._replace(memory=stream.memory)).value
        following = jnp.concatenate([now.value[1:], value])
    else:
        following = jnp.mean(now.value[:1], axis=1, keepdims=True)
    return now._replace(next_value=jnp.where(trajectory.terminated, following, now.next_value))


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

"""Batches cut into pieces that a CPU's caches hold, and gradients summed over them."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pgjax.numerics.masked import normalized
from pgjax.numerics.scans import remaining, scan_while
from pgjax.types import Array, Batch, Evaluation, Policy, PyTree, Trajectory


def evaluate(policy: Policy, params: PyTree, trajectory: Trajectory) -> Evaluation:
    """policy.evaluate of a rollout's every step, once; `next_value` is meaningless where the episode terminated.

    On CPU four steps at a time, whose activations stay in the cache, and the critic looks again at `next_obs`
    only where an episode was truncated.
    """
    steps, chunk = trajectory.reward.shape[0], 4
    if jax.default_backend() != "cpu" or not policy.by_observation or steps % chunk:
        return policy.evaluate(params, trajectory)
    pieces = jax.tree.map(lambda x: x.reshape(steps // chunk, chunk, *x.shape[1:]), trajectory)
    no_value: Any = ()
    ask = lambda _, row: ((), policy.evaluate(params, row[0])._replace(next_value=no_value))  # noqa: E731
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
    """The evaluation, with next_value that of the start that follows wherever an episode terminated.

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


def counted(batch: Batch, normalize: bool = False) -> Batch:
    """The batch with 0 in place of every advantage, target and value of a step that doesn't count.

    After the end of an episode they may be anything, NaN too, which a gradient would spread.

    Args:
      normalize: whether the advantages get mean 0 and standard deviation 1 over the steps that count.
    """
    mask = batch.trajectory.mask
    advantage, target, value = (jnp.where(mask > 0, x, 0.0) for x in (batch.advantage, batch.target, batch.value))
    if normalize:
        advantage = normalized(advantage, mask, jnp.maximum(jnp.abs(value), jnp.abs(target)))
    return batch._replace(advantage=advantage, target=target, value=value)


REDUCTIONS = ("step", "episode", "episode_mean")


def share_of_mean(x: Array, mask: Array, total: Array) -> Array:
    """The mean over the steps of the whole batch: the share of this piece of it."""
    return jnp.sum(jnp.where(mask > 0, jax.lax.stop_gradient(x), 0.0)) / total


def row_pieces(shape: tuple[int, ...]) -> int:
    """Into how many pieces of the leading axis a batch of this shape, [N] or [T, B], is best cut.

    On a CPU a piece has 128 steps: their activations stay in the innermost caches, and pieces after the end of all
    episodes are left out. Many rows are likely those of a lane by itself, whose pieces should be worth sharing
    between the cores. On other devices there is one piece.
    """
    if jax.default_backend() != "cpu":
        return 1
    steps = 128 if len(shape) == 2 or shape[0] <= 2048 else 8192
    wanted = -(-shape[0] // max(1, steps // math.prod(shape[1:])))
    found = next(n for n in range(wanted, shape[0] + 1) if shape[0] % n == 0)
    return found if found <= 2 * wanted else 1


def column_pieces(batch: Batch) -> int:
    """Into how many pieces of its columns a batch of token sequences is best cut: on a CPU, some 512 tokens each."""
    if jax.default_backend() != "cpu":
        return 1
    envs, most = batch.trajectory.mask.shape[1], max(1, 512 // batch.trajectory.obs.shape[-1])
    return next(n for n in range(1, envs + 1) if envs % n == 0 and envs // n <= most)


def sum_packed(function: Callable[[Batch], PyTree], batch: Batch) -> PyTree:
    """The sum of function(rows) over the steps that count of whole episodes [T, B], 128 rows at a time.

    Most of a batch may lie after the ends of its episodes: only the steps before them are evaluated.
    """
    mask = batch.trajectory.mask
    lengths = jnp.sum(mask > 0, axis=0)  # [B]; what counts comes first
    ends = jnp.cumsum(lengths)

    def rows(first):
        n = first + jnp.arange(128)
        b = jnp.minimum(jnp.sum(ends[None] <= n[:, None], axis=1), mask.shape[1] - 1)
        t = jnp.clip(n - (ends - lengths)[b], 0, jnp.maximum(lengths[b] - 1, 0))
        taken = jax.tree.map(lambda x: x[t, b], batch)
        return taken._replace(trajectory=taken.trajectory._replace(mask=jnp.where(n < ends[-1], mask[t, b], 0.0)))

    firsts = jnp.arange(0, mask.size, 128)
    return sum_rows(lambda first: function(rows(first)), firsts, lambda _, first: first < ends[-1])


def sum_pieces(function: Callable[[Batch], PyTree], batch: Batch, pieces: int) -> PyTree:
    """The sum of function(piece) over equal pieces of the batch's leading axis."""
    cut = jax.tree.map(lambda x: x.reshape(pieces, -1, *x.shape[1:]), batch)
    ahead = remaining(cut.trajectory.mask)
    return sum_rows(lambda row: function(row[0]), (cut, ahead), lambda _, row: row[1])


def sum_rows(function: Callable[[Any], PyTree], inputs: PyTree, going: Callable[[Any, Any], Array]) -> PyTree:
    """The sum of function(row) over the inputs [I, ...] for as long as any lane is going."""
    like = jax.eval_shape(function, jax.tree.map(lambda x: x[0], inputs))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    add = lambda sums, row: (jax.tree.map(jnp.add, sums, function(row)), None)  # noqa: E731
    return scan_while(add, zeros, inputs, going)[0]

"""Weighted sums of the scores of an episode, for many weights per step at once.

A score-function gradient is linear in its weights, g_k = sum_t w_kt d log pi(a_t | s_t) / d theta. So K
estimators share one forward pass, and of the backward pass all but its last product: where a parameter W
enters as x_t W, the gradient is sum_t w_kt x_t d_t', and the cotangent d_t is the same for every k. The
products are found in the jaxpr of `policy.evaluate`, so that any module gains by it; parameters that
enter in another way (gathers, standard deviations, a recurrent memory) are differentiated K times.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgjax.policies.traits import has_memory
from pgjax.types import Array, Policy, PyTree, Trajectory
from pgjax.variance.measurement import jaxpr_products


class Layout(NamedTuple):
    """The parameters that log pi depends on, as one vector of P numbers."""

    names: tuple[str, ...]  # of each leaf, such as 'actor_head/output/kernel'
    leaves: tuple[int, ...]  # their places among the leaves of params
    shapes: tuple[tuple[int, ...], ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(functools.reduce(lambda a, b: a * b, shape, 1) for shape in self.shapes)

    def vector(self, tree: PyTree, axes: int = 0) -> Array:
        """[..., P] of a tree like params, the first `axes` axes of each leaf being batch axes."""
        leaves = jax.tree.leaves(tree)
        parts = [leaves[i].reshape(*leaves[i].shape[:axes], -1) for i in self.leaves]
        return jnp.concatenate(parts, axis=-1)

    def tree(self, vector: Array, params: PyTree) -> PyTree:
        """The tree like `params` of one vector [P], 0 where log pi doesn't depend on a leaf."""
        leaves, tree = jax.tree.flatten(jax.tree.map(jnp.zeros_like, params))
        done = 0
        for i, shape, size in zip(self.leaves, self.shapes, self.sizes, strict=True):
            leaves[i] = vector[done : done + size].reshape(shape)
            done += size
        return jax.tree.unflatten(tree, leaves)


def layout(policy: Policy, params: PyTree, trajectory: Trajectory) -> Layout:
    """Which leaves of `params` matter to log pi; the critic's own do not."""
    closed = jaxpr_products.trace(functools.partial(log_prob, policy), params, trajectory)
    needed = jaxpr_products.needed(closed.jaxpr)
    paths = jax.tree_util.tree_flatten_with_path(params)[0]
    used = [i for i in range(len(paths)) if closed.jaxpr.invars[i] in needed]
    names = tuple("/".join(str(getattr(k, "key", getattr(k, "idx", k))) for k in paths[i][0]) for i in used)
    return Layout(names, tuple(used), tuple(jnp.shape(paths[i][1]) for i in used))


def weighted(
    output: Callable[[Policy, PyTree, Trajectory, PyTree], Array],
    policy: Policy,
    params: PyTree,
    trajectory: Trajectory,
    extra: PyTree,
    weights: Array,
    where: Layout,
) -> Array:
    """sum_t weights[k, t, b] d output[t, b] / d theta, [B, K, P].

    Args:
      output: (policy, params, trajectory, extra) -> [T, B], each step's own: `log_prob` makes these scores.
      trajectory: whole episodes [T, B]; a step with weight 0 may be anything finite.
      extra: arrays [T, B, ...] that `output` wants beside it.
      weights: [K, T, B].
    """
    batch = weights.shape[2]
    # Episodes of one piece: as many as keep its products, K x width x T x episodes, in the cache.
    most = max(1, min(84 // weights.shape[0], batch, 16))
    at_once = max(n for n in range(1, most + 1) if batch % n == 0)

    def split(x):
        return jnp.moveaxis(x.reshape(x.shape[0], batch // at_once, at_once, *x.shape[2:]), 1, 0)

    columns, extra = jax.tree.map(split, (trajectory._replace(memory=()), extra))
    memory = jax.tree.map(lambda x: x.reshape(batch // at_once, at_once, *x.shape[1:]), trajectory.memory)
    split_weights = jnp.moveaxis(weights.reshape(*weights.shape[:2], batch // at_once, at_once), 2, 0)

    def one(inputs):
        piece, memory, extra, w = inputs
        bound = functools.partial(output, policy)
        return _piece(bound, has_memory(policy), params, piece._replace(memory=memory), extra, w, where)

    found = jax.lax.map(one, (columns, memory, extra, split_weights))
    return found.reshape(batch, *found.shape[2:])


def per_step(policy: Policy, params: PyTree, trajectory: Trajectory, where: Layout) -> Array:
    """Each step's own score, [T, B, P]; large. For a policy without memory."""
    if has_memory(policy):
        raise ValueError("per-step scores need a policy without memory")

    def alone(params, step):
        row = jax.tree.map(lambda x: x[None, None], step)
        return log_prob(policy, params, row._replace(memory=()))[0, 0]

    gradient = jax.vmap(jax.vmap(jax.grad(alone), (None, 0)), (None, 0))
    return where.vector(gradient(params, trajectory._replace(memory=())), axes=2)


def log_prob(policy: Policy, params: PyTree, trajectory: Trajectory, _: PyTree = ()) -> Array:
    """log pi(a_t | s_t), [T, B]."""
    return policy.evaluate(params, trajectory).log_prob


def _piece(
    output: Callable[[PyTree, Trajectory, PyTree], Array],
    remembers: bool,
    params: PyTree,
    trajectory: Trajectory,
    extra: PyTree,
    weights: Array,
    where: Layout,
) -> Array:
    """[B, K, P] of one piece [T, B]."""
    leaves, tree = jax.tree.flatten(params)
    found: dict[int, Array] = {}
    if not remembers:
        closed = jaxpr_products.trace(output, params, trajectory, extra)
        inputs = [*leaves, *jax.tree.leaves((trajectory, extra))]
        sites = jaxpr_products.sites_of(closed, inputs, set(where.leaves))
        zeros = {i: jnp.zeros(shape, dtype) for i, (shape, dtype) in sites.items()}

        def perturbed(offsets):
            tap = jaxpr_products.Tap(offsets)
            return jnp.sum(jaxpr_products.run(closed, inputs, set(sites), tap)), tap.inputs

        cotangents, entered = jax.grad(perturbed, has_aux=True)(zeros) if sites else ({}, {})
        found = {i: _contract(weights, cotangents[i], entered[i]) for i in sites}
    rest = [i for i in where.leaves if i not in found]
    if rest:
        for i, gradient in zip(rest, _pulled(output, tree, leaves, rest, trajectory, extra, weights), strict=True):
            found[i] = gradient
    return jnp.concatenate([found[i].reshape(*found[i].shape[:2], -1) for i in where.leaves], axis=-1)


def _contract(weights: Array, cotangent: Array, entered: Array | None) -> Array:
    """[B, K, (in,) out] from weights [K, T, B], cotangents [T, B, ..., out] and inputs [T, B, ..., in]."""
    w = jnp.transpose(weights, (2, 0, 1))
    d = _by_episode(cotangent)
    if entered is None:  # a bias: its factor is 1
        return jnp.einsum("bkt,bto->bko", w, jnp.sum(d, axis=2))
    x, w = _by_episode(entered), w[..., None, None]
    if x.shape[-1] < d.shape[-1]:  # the weight goes to the narrower side
        return jnp.einsum("bktmi,btmo->bkio", w * x[:, None], d)
    return jnp.einsum("bktmo,btmi->bkio", w * d[:, None], x)


def _by_episode(x: Array) -> Array:
    """[T, B, ..., n] as [B, T, M, n]."""
    return jnp.moveaxis(x.reshape(*x.shape[:2], -1, x.shape[-1]), 1, 0)


def _pulled(
    output: Callable[[PyTree, Trajectory, PyTree], Array],
    tree: Any,
    leaves: list[Array],
    rest: list[int],
    trajectory: Trajectory,
    extra: PyTree,
    weights: Array,
) -> list[Array]:
    """Gradients [B, K, ...] of the leaves `rest`, by one backward pass for each of K weights and each episode."""
    memory, plain = trajectory.memory, trajectory._replace(memory=())

    def episode(plain, memory, extra, weights):
        alone, extra = jax.tree.map(lambda x: x[:, None], (plain, extra))
        alone = alone._replace(memory=jax.tree.map(lambda x: x[None], memory))

        def values(some):
            merged = list(leaves)
            for i, value in zip(rest, some, strict=True):
                merged[i] = value
            return output(jax.tree.unflatten(tree, merged), alone, extra)[:, 0]

        _, pull = jax.vjp(values, [leaves[i] for i in rest])
        return jax.vmap(lambda w: pull(w)[0])(weights)

    return jax.vmap(episode, in_axes=(1, 0, 1, 2))(plain, memory, extra, weights)

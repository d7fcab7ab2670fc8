"""Action distributions as pytrees: samples, log-probabilities, entropies and divergences of their parameters.

Leading axes are batch axes, and every field has them. A distribution has `sample(key)`, `log_prob(action)`,
`entropy()`, `mode()` and `kl(other)`, the divergence KL(self || other); entropies are in nats. `Joint` makes one of a
tree of them, whose actions are trees, and `adapted` one of a distribution of another library.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.types import Array, PyTree


class Categorical(NamedTuple):
    """Over A actions, from unnormalised log-probabilities."""

    logits: Array  # [..., A]

    def log_probs(self) -> Array:
        """Normalised log-probabilities, [..., A]."""
        return jax.nn.log_softmax(self.logits)

    def sample(self, key: Array) -> Array:
        """Action index, [...] int32, by inversion: one uniform number for each draw.

        An action of probability 0 is never drawn: u < 1, so u times the total stays below the total.
        """
        p = jax.nn.softmax(self.logits)
        # A parallel prefix sum may round equal neighbours apart: an interval ends only where p > 0.
        ends = jnp.where(p > 0, jnp.cumsum(p, axis=-1), 0.0)
        u = jax.random.uniform(key, p.shape[:-1] + (1,), p.dtype)
        beyond = ends > u * jnp.max(ends, axis=-1, keepdims=True)
        index = jax.lax.broadcasted_iota(jnp.int32, p.shape, p.ndim - 1)
        return jnp.min(jnp.where(beyond, index, p.shape[-1] - 1), axis=-1)

    def log_prob(self, action: Array) -> Array:
        """[...]"""
        # A one-hot sum: gathers, and the scatters of their gradients, are slow on every backend.
        chosen = jax.nn.one_hot(action, self.logits.shape[-1], dtype=bool)
        return jnp.sum(jnp.where(chosen, self.log_probs(), 0.0), axis=-1)

    def entropy(self) -> Array:
        """[...]"""
        log_p = self.log_probs()
        p = jnp.exp(log_p)
        return -jnp.sum(p * jnp.where(p > 0, log_p, 0.0), axis=-1)

    def mode(self) -> Array:
        """The likeliest action, [...] int32; the first of equals."""
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    def kl(self, other: "Categorical") -> Array:
        """[...]; infinite where `other` rules out an action that self may take."""
        log_p, log_q = self.log_probs(), other.log_probs()
        p = jnp.exp(log_p)
        return jnp.sum(p * jnp.where(p > 0, log_p - log_q, 0.0), axis=-1)


class DiagGaussian(NamedTuple):
    """Over real vectors of D components, independent of each other."""

    mean: Array  # [..., D]
    log_std: Array  # [..., D]

    def sample(self, key: Array) -> Array:
        """[..., D]"""
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(self.log_std) * noise

    def log_prob(self, action: Array) -> Array:
        """[...]"""
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return jnp.sum(-0.5 * z**2 - self.log_std - 0.5 * math.log(2 * math.pi), axis=-1)

    def entropy(self) -> Array:
        """[...]; differential, so it may be negative."""
        return jnp.sum(self.log_std + 0.5 * math.log(2 * math.pi * math.e), axis=-1)

    def mode(self) -> Array:
        """[..., D]"""
        return self.mean

    def kl(self, other: "DiagGaussian") -> Array:
        """[...]"""
        ratio = jnp.exp(2 * (self.log_std - other.log_std))
        z = (self.mean - other.mean) * jnp.exp(-other.log_std)
        return jnp.sum(0.5 * (ratio + z**2 - 1) + other.log_std - self.log_std, axis=-1)


class Joint(NamedTuple):
    """A tree of distributions, independent of each other, as one distribution over trees of the same structure.

    `Joint({"move": Categorical(logits), "aim": DiagGaussian(mean, log_std)})` is over hybrid actions
    {"move": [...] int32, "aim": [..., D]}; a tuple of Categoricals is over MultiDiscrete ones.
    """

    parts: PyTree  # of distributions, in dicts, tuples or NamedTuples

    def sample(self, key: Array) -> PyTree:
        """A tree of actions; every part draws from a key of its own."""
        parts, tree = self._leaves()
        keys = jax.random.split(key, len(parts))
        return jax.tree.unflatten(tree, [part.sample(k) for part, k in zip(parts, keys, strict=True)])

    def log_prob(self, action: PyTree) -> Array:
        """[...], the sum over the parts."""
        parts, tree = self._leaves()
        return sum(part.log_prob(x) for part, x in zip(parts, tree.flatten_up_to(action), strict=True))

    def entropy(self) -> Array:
        """[...], the sum over the parts."""
        return sum(part.entropy() for part in self._leaves()[0])

    def mode(self) -> PyTree:
        """A tree of actions."""
        parts, tree = self._leaves()
        return jax.tree.unflatten(tree, [part.mode() for part in parts])

    def kl(self, other: "Joint") -> Array:
        """[...], the sum over the parts."""
        return sum(part.kl(that) for part, that in zip(self._leaves()[0], other._leaves()[0], strict=True))

    def _leaves(self) -> tuple[list[Any], Any]:
        return jax.tree.flatten(self.parts, is_leaf=lambda x: hasattr(x, "log_prob"))


@functools.partial(jax.tree_util.register_dataclass, data_fields=["arguments", "named"], meta_fields=["make"])
@dataclasses.dataclass(frozen=True)
class Adapted:
    """A distribution of another library, kept as the arguments that it is made of: see `adapted`."""

    make: Callable[..., Any]
    arguments: tuple[PyTree, ...]  # arrays [..., *]
    named: dict[str, PyTree]

    def sample(self, key: Array) -> PyTree:
        """As theirs draws with seed=key."""
        return self._theirs().sample(seed=key)

    def log_prob(self, action: PyTree) -> Array:
        """[...]"""
        return self._theirs().log_prob(action)

    def entropy(self) -> Array:
        """[...]"""
        return self._theirs().entropy()

    def mode(self) -> PyTree:
        """The likeliest action."""
        return self._theirs().mode()

    def kl(self, other: "Adapted") -> Array:
        """[...]"""
        return self._theirs().kl_divergence(other._theirs())

    def _theirs(self) -> Any:
        return self.make(*self.arguments, **self.named)


def adapted(make: Callable[..., Any], *arguments: PyTree, **named: PyTree) -> Adapted:
    """The distribution that `make(*arguments, **named)` of another library makes, such as distrax or TFP.

    Example: `adapted(distrax.Categorical, logits=logits)`.

    Args:
      make: a class, or a function of a module: not a new function at each call, since programs are told apart by it.
        What it makes has `sample(seed=...)`, `log_prob`, `entropy`, `mode` and `kl_divergence`, one number for each
        action: a vector of independent components is one action (tfd.Independent).
      arguments, named: arrays with the batch axes first.
    """
    return Adapted(make, arguments, named)


def check_distribution(dist: Any, name: str) -> None:
    """TypeError, with the call that mends it, where a policy's distribution has not the functions of this module's."""
    kind = type(dist)
    if lacking := [x for x in ("sample", "log_prob", "entropy", "mode") if not callable(getattr(dist, x, None))]:
        raise TypeError(
            f"{name} gives {kind.__name__} as its distribution, which has no {lacking[0]}; give one of "
            "pgjax.policies.distributions, or a NamedTuple with sample, log_prob, entropy, mode and kl"
        )
    if "seed" in inspect.signature(dist.sample).parameters:
        package = kind.__module__.partition(".")[0]
        raise TypeError(
            f"{name} gives a {kind.__name__} of {package}, which draws by sample(seed=key), expected sample(key) and "
            f"kl(other); give pgjax.policies.distributions.adapted({kind.__name__}, ...) with its own arguments"
        )
    if any(not isinstance(x, (jax.Array, np.ndarray, jax.ShapeDtypeStruct)) for x in jax.tree.leaves(dist)):
        raise TypeError(
            f"{name} gives {kind.__name__} as its distribution, which is no pytree of arrays; make it a NamedTuple, or "
            "register it by jax.tree_util.register_dataclass"
        )


def check_fields(dist: Any, batch: tuple[int, ...], name: str) -> None:
    """ValueError where an array of a distribution lacks the batch axes, along which batches are cut."""
    for path, x in jax.tree_util.tree_flatten_with_path(dist)[0]:
        if jnp.shape(x)[: len(batch)] != batch:
            raise ValueError(
                f"{name}: {type(dist).__name__}{jax.tree_util.keystr(path)} has shape {jnp.shape(x)}, expected the "
                f"batch axes {batch} first; use jnp.broadcast_to on what steps share"
            )


Units = tuple[tuple[float, ...], tuple[float, ...]]  # middle, half


def units(space: Any) -> Units:
    """(middle, half), D numbers each: the units of a Box of actions with one axis.

    They are (low + high) / 2 and (high - low) / 2 where a component has both bounds. Where one bound is infinite (or
    the largest float32), they are the number of the Box nearest to 0, and 1.

    Raises:
      ValueError: where the Box has more axes than one, or a lower bound above the upper.
    """
    if len(space.shape) != 1:
        raise ValueError(f"a Box of actions must have one axis, got shape {space.shape}")
    low, high = (np.broadcast_to(np.asarray(x, np.float64), space.shape) for x in (space.low, space.high))
    if not np.all(low <= high):
        raise ValueError(f"a Box of actions must have low <= high, got {space!r}")
    most = float(np.finfo(np.float32).max)
    bounded = (np.maximum(np.abs(low), np.abs(high)) < most) & (low < high)
    low, high = np.clip(low, -most, most), np.clip(high, -most, most)
    middle = np.where(bounded, 0.5 * low + 0.5 * high, np.clip(0.0, low, high))
    return tuple(middle.tolist()), tuple(np.where(bounded, 0.5 * high - 0.5 * low, 1.0).tolist())


def gaussian(mean: Array, log_std: Array, units: Units) -> DiagGaussian:
    """The DiagGaussian of a = middle + half u, u of this mean and log_std [..., D], in the `units` of a Box.

    At mean 0 and log_std 0 it covers a finite Box, and a linear change of the Box's units changes nothing that is
    learned: log-probabilities and entropies shift by a constant; ratios, divergences and gradients stay.
    """
    log_std = jnp.broadcast_to(log_std, mean.shape)
    if not any(units[0]) and set(units[1]) <= {1.0}:
        return DiagGaussian(mean, log_std)
    each = (jnp.broadcast_to(jnp.asarray(x, mean.dtype), mean.shape) for x in (*units, np.log(units[1])))
    middle, half, log_half = each
    return DiagGaussian(middle + half * mean, log_std + log_half)

"""Several choices at once as one distribution, and the distributions that are left where not every action is legal."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from pgjax.envs.spaces import padded
from pgjax.policies.distributions import Categorical, Joint
from pgjax.types import Array, PyTree


class MultiCategorical(NamedTuple):
    """Over vectors of D choices, independent of each other, from unnormalised log-probabilities."""

    logits: Array  # [..., D, N]: -inf where the d-th choice is among fewer than N

    def sample(self, key: Array) -> Array:
        """[..., D] int32"""
        return Categorical(self.logits).sample(key)

    def log_prob(self, action: Array) -> Array:
        """[...]"""
        return jnp.sum(Categorical(self.logits).log_prob(action), axis=-1)

    def entropy(self) -> Array:
        """[...]"""
        return jnp.sum(Categorical(self.logits).entropy(), axis=-1)

    def mode(self) -> Array:
        """[..., D] int32"""
        return Categorical(self.logits).mode()

    def kl(self, other: "MultiCategorical") -> Array:
        """[...]"""
        return jnp.sum(Categorical(self.logits).kl(Categorical(other.logits)), axis=-1)


def multi_categorical(x: Array, nvec: Sequence[int]) -> MultiCategorical:
    """The MultiCategorical of unnormalised log-probabilities [..., sum of nvec], choice after choice."""
    return MultiCategorical(padded(x, nvec, -jnp.inf))


def legal_only(dist: Any, mask: PyTree) -> Any:
    """The distribution given that the action is legal: a Categorical, a MultiCategorical, or a Joint of these.

    Illegal actions get the log-probability -inf, and so no gradient, no share of an entropy and no draw. Where a mask
    allows nothing, as after the end of an episode, it rules nothing out.

    Args:
      mask: [..., A], or [..., D, N], bool; a tree of masks for a Joint, from which parts may be left out.

    Raises:
      TypeError: for a distribution of another kind.
    """
    if isinstance(dist, Joint):
        return Joint(_each(dist.parts, mask))
    if not isinstance(dist, (Categorical, MultiCategorical)):
        raise TypeError(
            f"a mask of legal actions needs a Categorical, a MultiCategorical or a Joint of these, got "
            f"{type(dist).__name__}; let the environment give no mask, or the policy one of these"
        )
    allowed = jnp.asarray(mask, bool)
    # A further choice of a MultiCategorical, which is padded, isn't there for the mask to allow.
    none = ~jnp.any(allowed & (dist.logits > -jnp.inf), axis=-1, keepdims=True)
    return type(dist)(jnp.where(allowed | none, dist.logits, -jnp.inf))


def _each(parts: PyTree, mask: PyTree) -> PyTree:
    if mask is None:
        return parts
    if isinstance(parts, Mapping):
        return {name: _each(part, mask.get(name)) for name, part in parts.items()}
    if isinstance(parts, tuple) and not hasattr(parts, "log_prob"):
        return tuple(_each(part, one) for part, one in zip(parts, mask, strict=True))
    return legal_only(parts, mask)


def mixed(dist: Categorical, share: Array | float, mask: Array | None) -> Categorical:
    """(1 - share) of a Categorical and `share` of the uniform distribution over legal actions.

    Args:
      mask: [..., A] of legal actions; None where all are.
    """
    spread: Array | float = 1 / dist.logits.shape[-1]
    if mask is not None:
        spread = jnp.exp(legal_only(Categorical(jnp.zeros_like(dist.logits)), mask).log_probs())
    return Categorical(jnp.log((1 - share) * jnp.exp(dist.log_probs()) + share * spread))

"""`Head`: a network's outputs as a distribution over a space of actions, which may be a tree."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.config import Config
from pgjax.envs import spaces
from pgjax.policies.bounded import Beta, Mixture
from pgjax.policies.choices import multi_categorical
from pgjax.policies.distributions import Categorical, Joint, Units, gaussian, units
from pgjax.policies.squashed import SquashedGaussian
from pgjax.types import Array

COMPONENTS = 3  # of a mixture
LOG_STD = (-20.0, 2.0)  # bounds of one that is an output; the program of Haarnoja et al. 2018 has these


class Leaf(NamedTuple):
    """One array of an action."""

    output: int  # the first of its outputs
    outputs: int
    real: int = 0  # the first of its log standard deviations
    reals: int = 0
    choices: tuple[int, ...] = ()  # of a MultiDiscrete
    units: Units | None = None  # of a Box
    kind: str = ""  # of a Box's distribution

    def distribution(self, x: Array, log_std: Array | None) -> Any:
        x = x[..., self.output : self.output + self.outputs]
        if self.units is None:
            return multi_categorical(x, self.choices) if self.choices else Categorical(x)
        size = len(self.units[0])
        if self.kind == "beta":
            alpha, beta = jnp.split(1 + jax.nn.softplus(x), 2, axis=-1)
            return Beta(alpha, beta, *self._bounds(alpha))
        if self.kind == "mixture":
            parts = x.reshape(*x.shape[:-1], COMPONENTS, 1 + 2 * size)
            mean, deviation = jnp.split(parts[..., 1:], 2, axis=-1)
            return Mixture(Categorical(parts[..., 0]), gaussian(mean, jnp.clip(deviation, *LOG_STD), self.units))
        if self.reals and log_std is not None:
            mean, deviation = x, log_std[..., self.real : self.real + self.reals]
        else:
            mean, deviation = x[..., :size], jnp.clip(x[..., size:], *LOG_STD)
        if self.kind == "squashed":
            return SquashedGaussian(mean, jnp.broadcast_to(deviation, mean.shape), *self._bounds(mean))
        return gaussian(mean, deviation, self.units)

    def _bounds(self, like: Array) -> tuple[Array, Array]:
        assert self.units is not None
        middle, half = (np.asarray(x, np.float64) for x in self.units)
        low, high = (jnp.broadcast_to(jnp.asarray(x, like.dtype), like.shape) for x in (middle - half, middle + half))
        return low, high


class Head(NamedTuple):
    """Outputs [..., O], and log standard deviations [D] or [..., D] of all Boxes, to a distribution of actions.

    A Discrete is a Categorical, a MultiDiscrete a MultiCategorical, a Box what `config.distribution` says, a Gaussian
    in the units of the Box by default; a Dict or a Tuple is a Joint of its parts, independent of each other given the
    observation.
    """

    tree: Any  # a Leaf; or, for a Dict or a Tuple, ("dict" or "tuple", ((name, tree), ...))
    outputs: int  # O
    reals: int  # D, over all Boxes; 0 where deviations are outputs

    @classmethod
    def of(cls, space: Any, config: Config = Config()) -> "Head":
        """The head of a space of actions.

        Raises:
          ValueError: for a space that no distribution of this package covers, and for a distribution or a log_std that
            the space gives no meaning.
        """
        spaces.check_actions(space)
        head = cls(*_tree(space, config, 0, 0))
        for name in ("distribution", "log_std"):
            if (chosen := getattr(config, name)) != getattr(Config(), name) and not _boxes(space):
                raise ValueError(f"{name}={chosen!r} needs a Box of actions, got {space!r}; remove it")
        if config.log_std == "network" and config.distribution in ("beta", "mixture"):
            raise ValueError(f"log_std='network' changes nothing with distribution={config.distribution!r}; remove it")
        return head

    def __call__(self, x: Array, log_std: Array | None = None) -> Any:
        found = _distributions(self.tree, x, log_std)
        return found if isinstance(self.tree, Leaf) else Joint(found)


def _boxes(space: Any) -> bool:
    return any(spaces.is_box(part) for part in jax.tree.leaves(spaces.parts(space)))


def _tree(space: Any, config: Config, output: int, real: int) -> tuple[Any, int, int]:
    """The tree of a space whose first output and first real number have these places, and the places after it."""
    inside = getattr(space, "spaces", None)
    if inside is not None:
        mapping, found = isinstance(inside, Mapping), []
        for name in inside if mapping else range(len(inside)):
            part, output, real = _tree(inside[name], config, output, real)
            found.append((name, part))
        return ("dict" if mapping else "tuple", tuple(found)), output, real
    if not spaces.is_box(space):
        choices = tuple(int(n) for n in space.nvec) if spaces.is_multi_discrete(space) else ()
        size = sum(choices) if choices else int(space.n)
        return Leaf(output, size, choices=choices), output + size, real
    scale, kind = units(space), config.distribution
    bounded = [np.isfinite(np.asarray(x, np.float32)).all() for x in (space.low, space.high)]
    if kind in ("beta", "squashed") and not all(bounded):
        raise ValueError(f"distribution={kind!r} needs a Box of actions with finite bounds, got {space!r}")
    size, own = len(scale[0]), kind in ("gaussian", "squashed") and config.log_std == "parameter"
    outputs = {"mixture": COMPONENTS * (1 + 2 * size)}.get(kind, size if own else 2 * size)
    reals = size if own else 0
    return Leaf(output, outputs, real, reals, units=scale, kind=kind), output + outputs, real + reals


def _distributions(tree: Any, x: Array, log_std: Array | None) -> Any:
    if isinstance(tree, Leaf):
        return tree.distribution(x, log_std)
    kind, parts = tree
    found = {name: _distributions(part, x, log_std) for name, part in parts}
    return found if kind == "dict" else tuple(found.values())

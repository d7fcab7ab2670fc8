"""`Eye`: an observation, an array or a tree of arrays, as one vector of features."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pgjax.envs import images, observations, spaces
from pgjax.policies.convolutions import Convolution, ResNet
from pgjax.types import Array, PyTree


class Part(NamedTuple):
    """One array of an observation."""

    path: tuple[Any, ...]  # the keys and indices that lead to it
    shape: tuple[int, ...]
    choices: tuple[int, ...] = ()  # the numbers of choices, where it is a Discrete or a MultiDiscrete
    channels: int | None = None  # the axis of the channels, where it goes through a convolution
    scale: float = 1.0  # by which it is divided


class Eye(nnx.Module):
    """Observations [..., *obs] to features [..., width]: every part flattened, and all joined.

    A Discrete or a MultiDiscrete is one-hot; a uint8 array whose upper bound is 255 is divided by it, and until then
    kept in bytes; what says which actions are legal is left out.

    Args:
      convolve: what images go through: "cnn", one 3x3 convolution of 16 channels, as those of MinAtar in Young & Tian
        2019; "resnet", see there; "" flattens them.
      told: whether an image whose sizes don't say which axis holds the channels is [H, W, C].
    """

    def __init__(self, space: Any, convolve: str = "", told: bool = False, *, rngs: nnx.Rngs):
        self.parts = tuple(_part(path, part, convolve, told) for path, part in observations.leaves(space))
        kind = ResNet if convolve == "resnet" else Convolution
        seen = [part for part in self.parts if part.channels is not None]
        self.convolutions = nnx.List([kind(_size(part), rngs=rngs) for part in seen])
        widths = iter([one.width for one in self.convolutions])
        self.width = sum(next(widths) if part in seen else _width(part) for part in self.parts)

    def __call__(self, obs: PyTree) -> Array:
        found, convolutions = [], iter(self.convolutions)
        for part in self.parts:
            x = observations.at(obs, part.path)
            if part.choices:
                found.append(_one_hot(part, x))
                continue
            x = jnp.asarray(x, jnp.float32)
            x = x if part.scale == 1 else x / part.scale
            if part.channels is not None:
                found.append(next(convolutions)(jnp.moveaxis(x, -3, -1) if part.channels == 0 else x))
                continue
            found.append(x.reshape(*x.shape[: x.ndim - len(part.shape)], -1))
        return found[0] if len(found) == 1 else jnp.concatenate(found, axis=-1)


def _part(path: tuple[Any, ...], space: Any, convolve: str, told: bool) -> Part:
    if spaces.is_discrete(space):
        return Part(path, (), (int(space.n),))
    if spaces.is_multi_discrete(space):
        return Part(path, tuple(space.shape), tuple(int(n) for n in space.nvec))
    in_bytes = np.dtype(space.dtype) == np.uint8 and float(np.max(space.high)) == 255
    channels = None
    if convolve and images.is_image(space, told):
        channels = 0 if images.channels(space) == 0 else 2
    return Part(path, tuple(space.shape), (), channels, 255.0 if in_bytes else 1.0)


def _width(part: Part) -> int:
    return sum(part.choices) if part.choices else math.prod(part.shape)


def _size(part: Part) -> tuple[int, int, int]:
    """(H, W, C)"""
    first, second, third = part.shape
    return (second, third, first) if part.channels == 0 else (first, second, third)


def _one_hot(part: Part, x: Array) -> Array:
    if not part.shape:
        return jax.nn.one_hot(x, part.choices[0])
    return jnp.concatenate([jax.nn.one_hot(x[..., i], n) for i, n in enumerate(part.choices)], axis=-1)

"""Networks for images [..., H, W, C].

No convolution may be compiled over lanes (with weights for each lane it becomes a grouped one, slow on CPU): these are
products with patches.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from pgjax.policies.orthogonal import orthogonal
from pgjax.types import Array


class Convolution(nnx.Module):
    """One 3x3 convolution of 16 channels without padding, and a relu, flattened."""

    channels = 16

    def __init__(self, size: tuple[int, int, int], *, rngs: nnx.Rngs):
        height, width, depth = size
        self.layer = nnx.Linear(9 * depth, self.channels, kernel_init=orthogonal(2**0.5), rngs=rngs)
        self.width = (height - 2) * (width - 2) * self.channels

    def __call__(self, x: Array) -> Array:
        x = jax.nn.relu(self.layer(patches(x)))
        return x.reshape(*x.shape[:-3], -1)


class ResNet(nnx.Module):
    """The deep network of Espeholt et al. 2018 (IMPALA, fig. 3): three stages of 16, 32 and 32 channels.

    A stage is a 3x3 convolution, the largest of every 3x3 places two apart, and two residual blocks of two convolutions
    each; at the end a relu, flattened. An image smaller than 8 x 8 leaves the last stages with a single place.
    """

    depths = (16, 32, 32)

    def __init__(self, size: tuple[int, int, int], *, rngs: nnx.Rngs):
        height, width, depth = size
        layers = []
        for channels in self.depths:
            for inputs in (depth, channels, channels, channels, channels):
                layers.append(nnx.Linear(9 * inputs, channels, kernel_init=orthogonal(2**0.5), rngs=rngs))
            height, width, depth = (height + 1) // 2, (width + 1) // 2, channels
        self.layers = nnx.List(layers)
        self.width = height * width * depth

    def __call__(self, x: Array) -> Array:
        layers = iter(self.layers)

        def convolved(x):
            edge = [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
            return next(layers)(patches(jnp.pad(x, edge)))

        for _ in self.depths:
            x = _pooled(convolved(x))
            for _ in range(2):
                x = x + convolved(jax.nn.relu(convolved(jax.nn.relu(x))))
        x = jax.nn.relu(x)
        return x.reshape(*x.shape[:-3], -1)


def patches(x: Array) -> Array:
    """The 3x3 neighbourhoods of images [..., H, W, C], as [..., H - 2, W - 2, 9 C]."""
    h, w = x.shape[-3] - 2, x.shape[-2] - 2
    return jnp.concatenate([x[..., i : i + h, j : j + w, :] for i in range(3) for j in range(3)], axis=-1)


def _pooled(x: Array) -> Array:
    """The largest of 3 x 3 places around every second one, [..., H, W, C] to [..., (H + 1) / 2, (W + 1) / 2, C]."""
    for axis in (-3, -2):
        size = x.shape[axis]
        edge = [(0, 0)] * x.ndim
        edge[axis] = (1, 1)
        padded = jnp.pad(x, edge, constant_values=-jnp.inf)
        rows = [jax.lax.slice_in_dim(padded, i, i + size, axis=axis % x.ndim) for i in range(3)]
        x = jax.lax.slice_in_dim(jnp.maximum(jnp.maximum(rows[0], rows[1]), rows[2]), 0, size, 2, axis % x.ndim)
    return x

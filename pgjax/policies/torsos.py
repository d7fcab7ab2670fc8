"""Hidden layers: a multi-layer perceptron, with normalised layers or not, and a residual one."""

import jax
import jax.numpy as jnp
from flax import nnx

from pgjax.config import Config
from pgjax.policies.orthogonal import orthogonal
from pgjax.types import Array

ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu}


def linear(inputs: int, outputs: int, scale: float, rngs: nnx.Rngs) -> nnx.Linear:
    """A layer with orthogonal weights of this gain."""
    return nnx.Linear(inputs, outputs, kernel_init=orthogonal(scale), rngs=rngs)


def layer_norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Ba et al. 2016, in two passes: flax's default takes a variance as mean of squares less square of the mean.

    In float32 that is wrong for rows whose mean is thousands of times their spread.
    """
    return nnx.LayerNorm(width, use_fast_variance=False, rngs=rngs)


def torso(inputs: int, config: Config, *, rngs: nnx.Rngs) -> "Torso | Residual":
    """The hidden layers that config describes; `width` is that of their output."""
    if config.network == "simba":
        return Residual(inputs, config, rngs=rngs)
    return Torso(inputs, config, rngs=rngs)


class Torso(nnx.Module):
    """Hidden layers, gain sqrt(2); with `layer_norm` each is normalised before its activation."""

    def __init__(self, inputs: int, config: Config, *, rngs: nnx.Rngs):
        widths = (inputs, *config.hidden)
        self.layers = nnx.List([linear(i, o, 2**0.5, rngs) for i, o in zip(widths[:-1], widths[1:], strict=True)])
        self.norms = nnx.List([layer_norm(width, rngs) for width in config.hidden if config.layer_norm])
        if config.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {config.activation!r}")
        self.activation = ACTIVATIONS[config.activation]
        self.width = widths[-1]

    def __call__(self, x: Array) -> Array:
        for i, layer in enumerate(self.layers):
            x = layer(x)
            x = self.activation(self.norms[i](x) if len(self.norms) else x)
        return x


class Residual(nnx.Module):
    """SimBa (Lee et al. 2024): a linear layer, a residual block for each number of `hidden`, and a last LayerNorm.

    A block is x + W2 relu(W1 LayerNorm(x)), four times as wide inside. SimBa normalises observations by running moments
    too: that is `normalize_obs`.

    Raises:
      ValueError: where the numbers of `hidden` aren't all the same.
    """

    def __init__(self, inputs: int, config: Config, *, rngs: nnx.Rngs):
        if len(set(config.hidden)) != 1:
            told = "x".join(map(str, config.hidden))
            raise ValueError(f"network='simba' needs hidden widths that are all the same, got {told}; use 64x64")
        width = self.width = config.hidden[0]
        self.first = linear(inputs, width, 1.0, rngs)
        self.norms = nnx.List([layer_norm(width, rngs) for _ in config.hidden])
        self.wide = nnx.List([linear(width, 4 * width, 2**0.5, rngs) for _ in config.hidden])
        self.narrow = nnx.List([linear(4 * width, width, 1.0, rngs) for _ in config.hidden])
        self.last = layer_norm(width, rngs)

    def __call__(self, x: Array) -> Array:
        x = self.first(x)
        for norm, wide, narrow in zip(self.norms, self.wide, self.narrow, strict=True):
            x = x + narrow(jax.nn.relu(wide(norm(x))))
        return self.last(x)

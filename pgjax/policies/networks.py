"""The actor-critic networks of this package: modules from observations to `(distribution, value)`.

No LAPACK call may be compiled over lanes (on CPU two batched ones can wait for each other for ever): orthogonal
matrices come from a Gram-Schmidt scan.
"""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from pgjax.config import Config
from pgjax.envs import observations, spaces
from pgjax.policies import critics, kernels
from pgjax.policies.eyes import Eye
from pgjax.policies.heads import Head
from pgjax.policies.torsos import Residual, Torso, linear, torso
from pgjax.types import Array, Env, PyTree


class ActorHead(nnx.Module):
    """Features to a distribution over the action space; the first policy is nearly uniform.

    A Gaussian's standard deviation is by default a parameter of its own, the same for every observation; mean and
    deviation are in the units of the Box, see `distributions.gaussian`: the first one covers it.
    """

    def __init__(self, features: int, space: Any, config: Config = Config(), *, rngs: nnx.Rngs):
        self.head = Head.of(space, config)
        if self.head.reals:
            self.log_std = nnx.Param(jnp.zeros(self.head.reals))
        self.output = linear(features, self.head.outputs, 0.01, rngs)

    def __call__(self, x: Array) -> Any:
        return self.distribution(self.output(x))

    def distribution(self, x: Array) -> Any:
        return self.head(x, self.log_std[...]) if self.head.reals else self.head(x)


class Critic(nnx.Module):
    """One more critic of an ensemble: a torso of its own, or none where it is shared; and a layer of one output."""

    def __init__(self, inputs: int, config: Config, *, rngs: nnx.Rngs):
        self.torso = None if config.shared else torso(inputs, config, rngs=rngs)
        self.head = linear(config.hidden[-1], 1, 1.0, rngs)


class MLP(nnx.Module):
    """Two towers, or one shared torso with two heads, on the flattened observation."""

    def __init__(self, env: Env, config: Config, *, rngs: nnx.Rngs):
        self.eye = self.opened(env, rngs)
        if not config.hidden:
            raise ValueError("hidden=() leaves a network no layer; give one width or more, or network='table'")
        self.actor_torso = torso(self.eye.width, config, rngs=rngs)
        self.critic_torso = None if config.shared else torso(self.eye.width, config, rngs=rngs)
        self.actor_head = ActorHead(config.hidden[-1], env.action_space, config, rngs=rngs)
        self.kind = config.critic
        self.critic_head = linear(config.hidden[-1], critics.outputs(env, config), critics.gain(config), rngs)
        self.others = nnx.List([Critic(self.eye.width, config, rngs=rngs) for _ in range(config.critics - 1)])
        if config.kernel not in ("xla", "fused"):
            raise ValueError(f"kernel must be one of xla, fused; got {config.kernel!r}")
        if config.kernel == "fused" and (config.layer_norm or config.network == "simba"):
            raise ValueError("kernel='fused' has no LayerNorm; use kernel='xla'")
        self.fused = config.activation if config.kernel == "fused" else None
        self.precision = "tf32" if config.precision == "tensorfloat32" else None

    @staticmethod
    def opened(env: Env, rngs: nnx.Rngs) -> Eye:
        """What turns observations into features."""
        return Eye(env.observation_space, rngs=rngs)

    def through(self, torso: Torso | Residual, output: nnx.Linear, x: Array) -> Array:
        """A torso and the linear layer on it. A fused kernel computes a shared torso once for each of its two heads."""
        if self.fused is None or not isinstance(torso, Torso):
            return output(torso(x))
        layers: list[Any] = [*torso.layers, output]
        pairs = [(layer.kernel[...], layer.bias[...]) for layer in layers]
        return kernels.tower(pairs, x, self.fused, precision=self.precision)

    def valued(self, obs: PyTree) -> tuple[Array, PyTree]:
        """The value, or the action values, and what the critic's loss needs besides."""
        x, shared = self.eye(obs), self.actor_torso
        output = self.through(self.critic_torso or shared, self.critic_head, x)
        value, extra = critics.read(self.kind, output)
        if not len(self.others):
            return value, extra
        more = [self.through(other.torso or shared, other.head, x)[..., 0] for other in self.others]
        return critics.together([value, *more])

    def actor(self, obs: PyTree) -> Any:
        return self.actor_head.distribution(self.through(self.actor_torso, self.actor_head.output, self.eye(obs)))

    def critic(self, obs: PyTree) -> Array:
        return self.valued(obs)[0]

    def __call__(self, obs: PyTree) -> tuple[Any, Array, PyTree]:
        return self.actor(obs), *self.valued(obs)


class CNN(MLP):
    """As MLP, images first through one 3x3 convolution of 16 channels: Young & Tian 2019's network for MinAtar."""

    @staticmethod
    def opened(env: Env, rngs: nnx.Rngs) -> Eye:
        return convolving(env, "cnn", rngs)


class DeepCNN(MLP):
    """As MLP, images first through the residual network of Espeholt et al. 2018 (IMPALA), see `resnet`."""

    @staticmethod
    def opened(env: Env, rngs: nnx.Rngs) -> Eye:
        return convolving(env, "resnet", rngs)


def convolving(env: Env, kind: str, rngs: nnx.Rngs) -> Eye:
    """An eye with convolutions of this kind for every image; ValueError for observations without one."""
    alone = spaces.layout(observations.content(env.observation_space)) == "HWC"
    eye = Eye(env.observation_space, convolve=kind, told=alone, rngs=rngs)
    if not len(eye.convolutions):
        raise ValueError(
            f"network={kind!r} needs images [H, W, C] or [C, H, W] of 3 x 3 or more, got {env.observation_space!r}; "
            "use network='auto'"
        )
    return eye

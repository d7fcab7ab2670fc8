"""The actor-critic networks of this package: modules from observations to `(distribution, value)`.

No LAPACK call may be compiled over lanes (on CPU two batched ones can wait for each other for
ever), and no convolution either (with weights for each lane it becomes a grouped one, slow on
CPU): orthogonal matrices come from a Gram-Schmidt scan, convolutions are products with patches.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from pgjax.config import Config
from pgjax.envs.spaces import layout, outputs
from pgjax.policies import kernels
from pgjax.policies.distributions import Categorical, DiagGaussian, gaussian, units
from pgjax.policies.orthogonal import orthogonal
from pgjax.types import Array, Env

Dist = Categorical | DiagGaussian

_ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu}


def _require(condition: bool, kind: str, env: Env, wanted: str) -> None:
    if not condition:
        raise ValueError(f"network={kind!r} needs {wanted}, got {env.observation_space!r}; use network='auto'")


def _require_xla(kind: str, config: Config) -> None:
    if config.kernel != "xla":
        raise ValueError(
            f"kernel={config.kernel!r} only applies to network='mlp' or 'cnn', but the network is {kind!r}; "
            "use kernel='xla'"
        )


def _linear(inputs: int, outputs: int, scale: float, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, kernel_init=orthogonal(scale), rngs=rngs)


class Torso(nnx.Module):
    """Hidden layers, gain sqrt(2)."""

    def __init__(self, inputs: int, config: Config, *, rngs: nnx.Rngs):
        widths = (inputs, *config.hidden)
        self.layers = nnx.List([_linear(i, o, 2**0.5, rngs) for i, o in zip(widths[:-1], widths[1:], strict=True)])
        if config.activation not in _ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(_ACTIVATIONS)}; got {config.activation!r}")
        self.activation = _ACTIVATIONS[config.activation]

    def __call__(self, x: Array) -> Array:
        for layer in self.layers:
            x = self.activation(layer(x))
        return x


class ActorHead(nnx.Module):
    """Features to a distribution over the action space; the first policy is nearly uniform.

    A Gaussian's standard deviation is a parameter of its own, the same for every observation; mean and deviation are
    in the units of the Box, see `distributions.gaussian`: the first one covers it.
    """

    def __init__(self, features: int, space: Any, *, rngs: nnx.Rngs):
        self.continuous = hasattr(space, "low")
        width = outputs(space)
        if self.continuous:
            self.units = units(space)
            self.log_std = nnx.Param(jnp.zeros(space.shape))
        self.output = _linear(features, width, 0.01, rngs)

    def __call__(self, x: Array) -> Dist:
        return self.distribution(self.output(x))

    def distribution(self, x: Array) -> Dist:
        if self.continuous:
            return gaussian(x, self.log_std[...], self.units)
        return Categorical(x)


def action_values(env: Env, config: Config) -> int:
    """The number A of action values [..., A] that the critic gives; 0 for a critic of states, [...]."""
    if config.critic == "value":
        return 0
    if not hasattr(env.action_space, "n"):
        raise ValueError(f"critic='action_value' needs a finite number of actions, got {env.action_space!r}")
    return env.action_space.n


class MLP(nnx.Module):
    """Two towers, or one shared torso with two heads, on the flattened observation."""

    def __init__(self, env: Env, config: Config, *, rngs: nnx.Rngs):
        space = env.observation_space
        _require(layout(space) != "", "mlp", env, "an array observation")
        self.axes = len(space.shape)
        self._build(math.prod(space.shape), env, config, rngs)

    def _build(self, inputs: int, env: Env, config: Config, rngs: nnx.Rngs) -> None:
        if not config.hidden:
            raise ValueError("hidden=() leaves a network no layer; give one width or more, or network='table'")
        self.actor_torso = Torso(inputs, config, rngs=rngs)
        self.critic_torso = None if config.shared else Torso(inputs, config, rngs=rngs)
        self.actor_head = ActorHead(config.hidden[-1], env.action_space, rngs=rngs)
        self.action_values = action_values(env, config)
        self.critic_head = _linear(config.hidden[-1], self.action_values or 1, 1.0, rngs)
        if config.kernel not in ("xla", "fused"):
            raise ValueError(f"kernel must be one of xla, fused; got {config.kernel!r}")
        self.fused = config.activation if config.kernel == "fused" else None
        self.precision = "tf32" if config.precision == "tensorfloat32" else None

    def features(self, obs: Array) -> Array:
        obs = jnp.asarray(obs, jnp.float32)
        return obs.reshape(*obs.shape[: obs.ndim - self.axes], -1)

    def through(self, torso: Torso, output: nnx.Linear, x: Array) -> Array:
        """A torso and the linear layer on it. A fused kernel computes a shared torso once for each of its two heads."""
        if self.fused is None:
            return output(torso(x))
        layers: list[Any] = [*torso.layers, output]
        pairs = [(layer.kernel[...], layer.bias[...]) for layer in layers]
        return kernels.tower(pairs, x, self.fused, precision=self.precision)

    def actor(self, obs: Array) -> Dist:
        return self.actor_head.distribution(self.through(self.actor_torso, self.actor_head.output, self.features(obs)))

    def critic(self, obs: Array) -> Array:
        torso = self.critic_torso if self.critic_torso is not None else self.actor_torso
        value = self.through(torso, self.critic_head, self.features(obs))
        return value if self.action_values else value[..., 0]

    def __call__(self, obs: Array) -> tuple[Dist, Array]:
        return self.actor(obs), self.critic(obs)


class CNN(MLP):
    """One 3x3 convolution of 16 channels, then as MLP: the network of Young & Tian 2019 for MinAtar."""

    channels = 16

    def __init__(self, env: Env, config: Config, *, rngs: nnx.Rngs):
        space = env.observation_space
        _require(layout(space) == "HWC" and min(space.shape[:2]) >= 3, "cnn", env, "images [H, W, C] of 3 x 3 or more")
        height, width, depth = space.shape
        self.convolution = _linear(9 * depth, self.channels, 2**0.5, rngs)
        self._build((height - 2) * (width - 2) * self.channels, env, config, rngs)

    def features(self, obs: Array) -> Array:
        obs = jnp.asarray(obs, jnp.float32)
        h, w = obs.shape[-3] - 2, obs.shape[-2] - 2
        patches = [obs[..., i : i + h, j : j + w, :] for i in range(3) for j in range(3)]
        x = jax.nn.relu(self.convolution(jnp.concatenate(patches, axis=-1)))
        return x.reshape(*x.shape[:-3], -1)


class Table(nnx.Module):
    """A row of preferences and a value for each discrete observation; starts uniform and at zero.

    It acts by softmax(preference / temperature): the Gibbs policy, at temperature 1 the softmax policy.
    """

    def __init__(self, env: Env, config: Config, *, rngs: nnx.Rngs):
        _require_xla("table", config)
        _require(layout(env.observation_space) == "", "table", env, "a discrete observation")
        states, self.temperature = env.observation_space.n, config.temperature
        self.continuous = hasattr(env.action_space, "low")
        if self.continuous and config.temperature != 1:
            raise ValueError(
                f"temperature={config.temperature:g} needs a discrete action space, got {env.action_space!r}; "
                "remove temperature"
            )
        width = outputs(env.action_space)
        self.preference = nnx.Param(jnp.zeros((states, width)))
        if self.continuous:
            self.units = units(env.action_space)
            self.log_std = nnx.Param(jnp.zeros((states, width)))
        self.value = _value_table(env, config)

    def actor(self, obs: Array) -> Dist:
        if self.continuous:
            return gaussian(self.preference[...][obs], self.log_std[...][obs], self.units)
        return Categorical(self.preference[...][obs] / self.temperature)

    def critic(self, obs: Array) -> Array:
        return self.value[...][obs]

    def __call__(self, obs: Array) -> tuple[Dist, Array]:
        return self.actor(obs), self.critic(obs)


class Sigmoid(nnx.Module):
    """One preference for each discrete observation, the log-odds of the second of two actions; and a value."""

    def __init__(self, env: Env, config: Config, *, rngs: nnx.Rngs):
        _require_xla("sigmoid", config)
        _require(layout(env.observation_space) == "", "sigmoid", env, "a discrete observation")
        if getattr(env.action_space, "n", None) != 2:
            raise ValueError(f"network='sigmoid' needs two actions, got {env.action_space!r}; use network='table'")
        self.temperature = config.temperature
        self.preference = nnx.Param(jnp.zeros(env.observation_space.n))
        self.value = _value_table(env, config)

    def actor(self, obs: Array) -> Categorical:
        theta = self.preference[...][obs] / self.temperature
        return Categorical(jnp.stack([jnp.zeros_like(theta), theta], axis=-1))

    def critic(self, obs: Array) -> Array:
        return self.value[...][obs]

    def __call__(self, obs: Array) -> tuple[Dist, Array]:
        return self.actor(obs), self.critic(obs)


def _value_table(env: Env, config: Config) -> nnx.Param[Array]:
    count = action_values(env, config)
    return nnx.Param(jnp.zeros((env.observation_space.n, count) if count else env.observation_space.n))


class Recurrent(nnx.Module):
    """A dense layer, a gated recurrent unit (Cho et al. 2014), and two heads on its memory."""

    def __init__(self, env: Env, config: Config, *, rngs: nnx.Rngs):
        space = env.observation_space
        _require_xla("gru", config)
        _require(layout(space) != "", "gru", env, "an array observation")
        self.axes = len(space.shape)
        width = config.hidden[-1]
        self.torso = Torso(math.prod(space.shape), config, rngs=rngs)
        self.gates = _linear(2 * width, 2 * width, 1.0, rngs)
        self.candidate = _linear(2 * width, width, 1.0, rngs)
        self.actor_head = ActorHead(width, env.action_space, rngs=rngs)
        self.action_values = action_values(env, config)
        self.critic_head = _linear(width, self.action_values or 1, 1.0, rngs)

    def remember(self, memory: Array, obs: Array) -> Array:
        obs = jnp.asarray(obs, jnp.float32)
        x = self.torso(obs.reshape(*obs.shape[: obs.ndim - self.axes], -1))
        reset, update = jnp.split(jax.nn.sigmoid(self.gates(jnp.concatenate([x, memory], -1))), 2, -1)
        candidate = jnp.tanh(self.candidate(jnp.concatenate([x, reset * memory], -1)))
        return update * memory + (1 - update) * candidate

    def read(self, memory: Array) -> tuple[Dist, Array]:
        value = self.critic_head(memory)
        return self.actor_head(memory), value if self.action_values else value[..., 0]

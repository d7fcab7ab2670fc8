"""Networks with a memory: gated units that go step by step, and linear recurrences that see all steps at once."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pgjax.config import Config
from pgjax.policies import critics
from pgjax.policies.eyes import Eye
from pgjax.policies.networks import ActorHead
from pgjax.policies.torsos import linear, torso
from pgjax.types import Array, Env, PyTree


class Memory(nnx.Module):
    """Hidden layers on the observation, a unit with a memory [B, M] of their width W, and two heads on it."""

    size = 1  # M / W

    def __init__(self, env: Env, config: Config, *, rngs: nnx.Rngs):
        width = config.hidden[-1]
        self.eye = Eye(env.observation_space, rngs=rngs)
        self.torso = torso(self.eye.width, config, rngs=rngs)
        self.build(width, rngs)
        self.actor_head = ActorHead(width, env.action_space, config, rngs=rngs)
        self.kind = config.critic
        self.critic_head = linear(width, critics.outputs(env, config), critics.gain(config), rngs)

    def build(self, width: int, rngs: nnx.Rngs) -> None:
        """Make the unit's own layers."""
        raise NotImplementedError

    def read(self, memory: Array) -> tuple[Any, Array, PyTree]:
        x = self.recalled(memory)
        return self.actor_head(x), *critics.read(self.kind, self.critic_head(x))

    def recalled(self, memory: Array) -> Array:
        """The features [B, W] of a memory."""
        return memory


class GRU(Memory):
    """A gated recurrent unit (Cho et al. 2014)."""

    def build(self, width: int, rngs: nnx.Rngs) -> None:
        self.gates = linear(2 * width, 2 * width, 1.0, rngs)
        self.candidate = linear(2 * width, width, 1.0, rngs)

    def remember(self, memory: Array, obs: PyTree) -> Array:
        x = self.torso(self.eye(obs))
        reset, update = jnp.split(jax.nn.sigmoid(self.gates(jnp.concatenate([x, memory], -1))), 2, -1)
        candidate = jnp.tanh(self.candidate(jnp.concatenate([x, reset * memory], -1)))
        return update * memory + (1 - update) * candidate


class LSTM(Memory):
    """Long short-term memory (Hochreiter & Schmidhuber 1997, Gers et al. 2000): what it shows h, and its cell c.

    The gate that forgets begins with a bias of 1 (Jozefowicz et al. 2015).
    """

    size = 2

    def build(self, width: int, rngs: nnx.Rngs) -> None:
        self.gates = linear(2 * width, 4 * width, 1.0, rngs)

    def remember(self, memory: Array, obs: PyTree) -> Array:
        x = self.torso(self.eye(obs))
        h, c = jnp.split(memory, 2, -1)
        enter, forget, out, candidate = jnp.split(self.gates(jnp.concatenate([x, h], -1)), 4, -1)
        c = jax.nn.sigmoid(forget + 1.0) * c + jax.nn.sigmoid(enter) * jnp.tanh(candidate)
        return jnp.concatenate([jax.nn.sigmoid(out) * jnp.tanh(c), c], -1)

    def recalled(self, memory: Array) -> Array:
        return jnp.split(memory, 2, -1)[0]


class MinGRU(Memory):
    """h_t = (1 - z_t) h_{t-1} + z_t c_t, z = sigmoid(W x), c = V x.

    Feng et al. 2024, Were RNNs all we needed?, sec. 3.1. Neither gate nor candidate sees the memory, so h is a linear
    recurrence.
    """

    def build(self, width: int, rngs: nnx.Rngs) -> None:
        self.gate = linear(width, width, 1.0, rngs)
        self.candidate = linear(width, width, 1.0, rngs)

    def recurrence(self, obs: PyTree) -> tuple[Array, Array]:
        x = self.torso(self.eye(obs))
        z = jax.nn.sigmoid(self.gate(x))
        return 1 - z, z * self.candidate(x)

    def combine(self, factor: Array, memory: Array) -> Array:
        return factor * memory


class LRU(Memory):
    """A linear recurrent unit (Orvieto et al. 2023, eq. 7 and sec. 3): complex, diagonal, and stable.

    h_t = lambda h_{t-1} + gamma B x_t, lambda = exp(-exp(nu) + i exp(theta)), gamma = sqrt(1 - |lambda|^2); what is
    read is relu(C h) of its real and imaginary parts, which the memory holds one after the other. |lambda| begins
    between .9 and .999, at angles up to pi / 10.
    """

    size = 2

    def build(self, width: int, rngs: nnx.Rngs) -> None:
        radius = jax.random.uniform(rngs.params(), (width,), minval=0.9**2, maxval=0.999**2) ** 0.5
        angle = jax.random.uniform(rngs.params(), (width,), minval=1e-3, maxval=np.pi / 10)
        self.nu, self.theta = nnx.Param(jnp.log(-jnp.log(radius))), nnx.Param(jnp.log(angle))
        self.enter = linear(width, 2 * width, 1.0, rngs)
        self.leave = linear(2 * width, width, 2**0.5, rngs)

    def recurrence(self, obs: PyTree) -> tuple[Array, Array]:
        x = self.torso(self.eye(obs))
        radius, angle = jnp.exp(-jnp.exp(self.nu[...])), jnp.exp(self.theta[...])
        factor = jnp.concatenate([radius * jnp.cos(angle), radius * jnp.sin(angle)])
        gamma = jnp.sqrt(1 - radius**2)
        term = self.enter(x) * jnp.concatenate([gamma, gamma]).reshape((1,) * (x.ndim - 1) + (-1,))
        return jnp.broadcast_to(factor, term.shape), term

    def combine(self, factor: Array, memory: Array) -> Array:
        """The complex product."""
        (a, b), (c, d) = jnp.split(factor, 2, -1), jnp.split(memory, 2, -1)
        return jnp.concatenate([a * c - b * d, a * d + b * c], -1)

    def recalled(self, memory: Array) -> Array:
        return jax.nn.relu(self.leave(memory))


UNITS: dict[str, type[Memory]] = {"gru": GRU, "lstm": LSTM, "mingru": MinGRU, "lru": LRU}

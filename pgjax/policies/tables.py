"""Policies of tables: a row of numbers for each discrete observation."""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from pgjax.config import Config
from pgjax.envs import observations, spaces
from pgjax.policies import critics
from pgjax.policies.distributions import Categorical
from pgjax.policies.heads import Head
from pgjax.types import Array, Env, PyTree


class _Valued(nnx.Module):
    """The value of each discrete observation, or its action values."""

    def __init__(self, kind: str, env: Env, config: Config):
        self.path, self.states = states(kind, env)
        self.temperature = config.temperature
        actions = critics.action_values(env, config)
        self.value = nnx.Param(jnp.zeros((self.states, actions) if actions else self.states))

    def actor(self, obs: PyTree) -> Any:
        raise NotImplementedError

    def critic(self, obs: PyTree) -> Array:
        return self.value[...][observations.at(obs, self.path)]

    def __call__(self, obs: PyTree) -> tuple[Any, Array]:
        return self.actor(obs), self.critic(obs)


class Table(_Valued):
    """A row of preferences and a value for each discrete observation; starts uniform and at zero.

    It acts by softmax(preference / temperature): the Gibbs policy, at temperature 1 the softmax policy.
    """

    def __init__(self, env: Env, config: Config, *, rngs: nnx.Rngs):
        super().__init__("table", env, config)
        self.head = Head.of(env.action_space, config)
        if self.head.reals and config.temperature != 1:
            raise ValueError(
                f"temperature={config.temperature:g} needs a discrete action space, got {env.action_space!r}; "
                "remove temperature"
            )
        self.preference = nnx.Param(jnp.zeros((self.states, self.head.outputs)))
        if self.head.reals:
            self.log_std = nnx.Param(jnp.zeros((self.states, self.head.reals)))

    def actor(self, obs: PyTree) -> Any:
        state = observations.at(obs, self.path)
        x = self.preference[...][state]
        if self.head.reals:
            return self.head(x, self.log_std[...][state])
        return self.head(x / self.temperature)


class Sigmoid(_Valued):
    """One preference for each discrete observation, the log-odds of the second of two actions; and a value."""

    def __init__(self, env: Env, config: Config, *, rngs: nnx.Rngs):
        super().__init__("sigmoid", env, config)
        if getattr(env.action_space, "n", None) != 2:
            raise ValueError(f"network='sigmoid' needs two actions, got {env.action_space!r}; use network='table'")
        self.preference = nnx.Param(jnp.zeros(self.states))

    def actor(self, obs: PyTree) -> Categorical:
        theta = self.preference[...][observations.at(obs, self.path)] / self.temperature
        return Categorical(jnp.stack([jnp.zeros_like(theta), theta], axis=-1))


def states(kind: str, env: Env) -> tuple[tuple[Any, ...], int]:
    """The path to the one discrete part of the observations, and how many values it has; ValueError where others are.

    Args:
      kind: of network, for the message.
    """
    found = list(observations.leaves(env.observation_space))
    if len(found) != 1 or not spaces.is_discrete(found[0][1]):
        raise ValueError(
            f"network={kind!r} needs a discrete observation, got {env.observation_space!r}; use network='auto'"
        )
    return found[0][0], found[0][1].n

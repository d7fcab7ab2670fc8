"""Five probe environments, each of which isolates one ability of an agent.

An agent that fails one shows where its error is: in the critic, its use of the observation, the discount, the
policy, or the policy's use of the observation. The probes are gymnax environments, registered on import.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces
from gymnax.registration import register, registered_envs

from pgjax.types import Array, PyTree


@struct.dataclass
class ProbeState(environment.EnvState):
    """Where a probe's episode stands."""

    sign: Array
    time: Array


@struct.dataclass
class ProbeParams(environment.EnvParams):
    """A probe has only its time limit."""

    max_steps_in_episode: int = 10


class Probe(environment.Environment):
    """One observation in [-1, 1], and episodes of `length` steps that terminate by themselves."""

    length = 1
    actions = 1

    @property
    def default_params(self) -> ProbeParams:
        return ProbeParams()

    def observe_state(self, state: ProbeState) -> Array:
        return jnp.ones(1)

    def reward(self, state: ProbeState, action: Array) -> Array:
        return jnp.float32(1.0)

    def reset_env(self, key: Array, params: ProbeParams) -> tuple[Array, ProbeState]:
        sign = jnp.where(jax.random.bernoulli(key), 1.0, -1.0)
        state = ProbeState(sign=sign, time=jnp.int32(0))
        return self.observe_state(state), state

    def step_env(
        self, key: Array, state: ProbeState, action: Array, params: ProbeParams
    ) -> tuple[Array, PyTree, Array, Array, dict[str, Any]]:
        reward = self.reward(state, action)
        state = state.replace(time=state.time + 1)
        return self.observe_state(state), state, reward, self.is_terminated(state, params), {}

    def is_terminated(self, state: ProbeState, params: ProbeParams) -> Array:
        return state.time >= self.length

    @property
    def name(self) -> str:
        return f"{type(self).__name__}-pgjax"

    @property
    def num_actions(self) -> int:
        return self.actions

    def action_space(self, params: PyTree = None) -> spaces.Discrete:
        return spaces.Discrete(self.actions)

    def observation_space(self, params: ProbeParams) -> spaces.Box:
        return spaces.Box(-1.0, 1.0, (1,))


class ValueProbe(Probe):
    """Always the same observation and reward 1: the value of everything is 1."""


class ObservationProbe(Probe):
    """The reward is the observation, +1 or -1: the value must follow the observation."""

    def observe_state(self, state: ProbeState) -> Array:
        return state.sign[None]

    def reward(self, state: ProbeState, action: Array) -> Array:
        return state.sign


class DiscountProbe(Probe):
    """Two steps, observations 0 and 1 (and 2 after the end), reward 1 at the end: values gamma and 1."""

    length = 2

    def observation_space(self, params: ProbeParams) -> spaces.Box:
        return spaces.Box(0.0, 2.0, (1,))

    def observe_state(self, state: ProbeState) -> Array:
        return (state.time * jnp.ones(1)).astype(jnp.float32)

    def reward(self, state: ProbeState, action: Array) -> Array:
        return jnp.where(state.time == 1, 1.0, 0.0)


class ActionProbe(Probe):
    """Action 1 pays 1, action 0 pays -1, whatever is observed."""

    actions = 2

    def reward(self, state: ProbeState, action: Array) -> Array:
        return jnp.where(action == 1, 1.0, -1.0)


class PolicyProbe(Probe):
    """The action that agrees with the sign of the observation pays 1, the other -1."""

    actions = 2

    def observe_state(self, state: ProbeState) -> Array:
        return state.sign[None]

    def reward(self, state: ProbeState, action: Array) -> Array:
        return jnp.where((action == 1) == (state.sign > 0), 1.0, -1.0)


PROBES = (ValueProbe, ObservationProbe, DiscountProbe, ActionProbe, PolicyProbe)


for _probe in PROBES:
    if f"{_probe.__name__}-pgjax" not in registered_envs:
        register(f"{_probe.__name__}-pgjax", _probe)

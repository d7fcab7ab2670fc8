"""Textbook problems as environments: Bernoulli bandits, the short corridor, rock-paper-scissors.

They are gymnax environments, registered on import. Their numbers are parameters, so a sweep may replace them.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces
from gymnax.registration import register, registered_envs

from pgjax.types import Array, PyTree


@struct.dataclass
class ClassicState(environment.EnvState):
    """Number of the state, and steps since the episode began."""

    position: Array
    time: Array


class _Blind(environment.Environment):
    """An environment in which every state looks alike."""

    actions = 2

    def reset_env(self, key: Array, params: PyTree) -> tuple[Array, ClassicState]:
        return jnp.int32(0), ClassicState(position=jnp.int32(0), time=jnp.int32(0))

    def is_terminated(self, state: ClassicState, params: PyTree) -> Array:
        return jnp.bool_(True)  # one decision is an episode

    @property
    def name(self) -> str:
        return f"{type(self).__name__}-pgjax"

    @property
    def num_actions(self) -> int:
        return self.actions

    def action_space(self, params: PyTree = None) -> spaces.Discrete:
        return spaces.Discrete(self.actions)

    def observation_space(self, params: PyTree) -> spaces.Discrete:
        return spaces.Discrete(1)


@struct.dataclass
class BanditParams(environment.EnvParams):
    """The arms of a bandit."""

    probability: Any = None  # [A] chance that an arm pays
    reward: Any = None  # [A] its payment
    max_steps_in_episode: int = 1


class BernoulliBandit(_Blind):
    """Arms that pay 1 (or `reward`) with a given probability, else 0; one pull is an episode.

    Args:
      probability: [A] chance that each arm pays; .6 and .4 by default.
      reward: [A] its payment; 1 for each by default.
    """

    def __init__(self, probability: Any = (0.6, 0.4), reward: Any = None):
        super().__init__()
        probability = np.asarray(probability, np.float32)
        if probability.ndim != 1 or len(probability) < 2 or not ((probability >= 0) & (probability <= 1)).all():
            raise ValueError(f"BernoulliBandit: probability must be 2 chances or more in [0, 1], got {probability}")
        reward = np.ones_like(probability) if reward is None else np.asarray(reward, np.float32)
        if reward.shape != probability.shape:
            raise ValueError(f"BernoulliBandit: reward must be one for each of {len(probability)} arms, got {reward}")
        self.actions = len(probability)
        self._params = BanditParams(probability=jnp.array(probability), reward=jnp.array(reward))  # copies

    @property
    def default_params(self) -> BanditParams:
        return self._params

    def step_env(
        self, key: Array, state: ClassicState, action: Array, params: BanditParams
    ) -> tuple[Array, PyTree, Array, Array, dict[str, Any]]:
        paid = jax.random.uniform(key) < params.probability[action]
        state = ClassicState(position=state.position, time=state.time + 1)
        return jnp.int32(0), state, jnp.where(paid, params.reward[action], 0.0), jnp.bool_(True), {}


@struct.dataclass
class CorridorParams(environment.EnvParams):
    """The corridor has only its time limit."""

    max_steps_in_episode: int = 1000


class ShortCorridor(_Blind):
    """The short corridor with switched actions (Sutton & Barto 2018, example 13.1).

    Three states that look alike and an end on the right; actions are left (0) and right (1), exchanged in
    the second state; reward -1 on every step, the last included. The book has no time limit; here an
    episode is truncated after 1000 steps.
    """

    @property
    def default_params(self) -> CorridorParams:
        return CorridorParams()

    def step_env(
        self, key: Array, state: ClassicState, action: Array, params: CorridorParams
    ) -> tuple[Array, PyTree, Array, Array, dict[str, Any]]:
        direction = jnp.where(state.position == 1, 1 - 2 * action, 2 * action - 1)
        position = jnp.maximum(state.position + direction, 0).astype(jnp.int32)
        state = ClassicState(position=position, time=state.time + 1)
        return jnp.int32(0), state, jnp.float32(-1), position == 3, {}

    def is_terminated(self, state: ClassicState, params: PyTree) -> Array:
        return state.position == 3


@struct.dataclass
class GameParams(environment.EnvParams):
    """The opponent's mixed strategy."""

    opponent: Any = None  # [3] the opponent's probabilities of rock, paper, scissors
    max_steps_in_episode: int = 1


# payoff[a, b] of rock, paper, scissors against each other
PAYOFF = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], np.float32)


class RockPaperScissors(_Blind):
    """One round of rock (0), paper (1), scissors (2) against an opponent of given probabilities; 1, 0 or -1."""

    actions = 3

    @property
    def default_params(self) -> GameParams:
        return GameParams(opponent=jnp.full(3, 1 / 3))

    def step_env(
        self, key: Array, state: ClassicState, action: Array, params: GameParams
    ) -> tuple[Array, PyTree, Array, Array, dict[str, Any]]:
        other = jax.random.choice(key, 3, p=params.opponent)
        state = ClassicState(position=state.position, time=state.time + 1)
        return jnp.int32(0), state, jnp.asarray(PAYOFF)[action, other], jnp.bool_(True), {}


for world in (BernoulliBandit, ShortCorridor, RockPaperScissors):
    if f"{world.__name__}-pgjax" not in registered_envs:
        register(f"{world.__name__}-pgjax", world)

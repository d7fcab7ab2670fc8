"""Tabular Markov decision processes: their tables are parameters, so a sweep may replace them.

`TabularMDP` is a gymnax environment, registered on import as `TabularMDP-pgjax`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces
from gymnax.registration import register, registered_envs

from pgjax.envs.observations import MASK
from pgjax.types import Array, PyTree


@struct.dataclass
class TabularState(environment.EnvState):
    """Number of the state, and steps since the episode began."""

    state: Array
    time: Array


@struct.dataclass
class TabularParams(environment.EnvParams):
    """The tables of a finite Markov decision process."""

    transition: Any = None  # [S, A, S] probabilities P(s' | s, a)
    reward: Any = None  # [S, A] expected reward
    start: Any = None  # [S] probabilities of the first state
    terminal: Any = None  # [S] bool: entering it ends the episode
    max_steps_in_episode: int = 10


@struct.dataclass
class MaskedParams(TabularParams):
    """The same, and which actions are legal."""

    legal: Any = None  # [S, A] bool


class TabularMDP(environment.Environment):
    """A finite MDP with rewards R[s, a]; the observation is the state's index, or a Dict with legal actions beside it.

    Args:
      transition, reward, start: arrays [S, A, S], [S, A] and [S]. By default a random MDP of 5
        states and 3 actions, the same on every machine.
      terminal: [S] bool; none by default, so that only the time limit ends an episode.
      horizon: the time limit, in steps. Reaching it truncates.
      legal: [S, A] bool, at least one action in each state. Where it is given, an observation is {"observation": the
        state, "action_mask": its row}; an illegal action that is taken all the same does what the tables say.
    """

    def __init__(
        self,
        transition: Any = None,
        reward: Any = None,
        start: Any = None,
        terminal: Any = None,
        horizon: int = 10,
        legal: Any = None,
    ):
        super().__init__()
        if transition is None:
            g = np.random.default_rng(0)
            transition = g.dirichlet(np.ones(5), size=(5, 3))
            reward = g.normal(size=(5, 3))
            start = g.dirichlet(np.ones(5))
        if reward is None or start is None:
            raise ValueError("TabularMDP: transition needs reward [S, A] and start [S] beside it")
        self.num_states, self._num_actions = np.shape(transition)[:2]
        terminal = np.zeros(self.num_states, bool) if terminal is None else terminal
        given = {"transition": transition, "reward": reward, "start": start, "terminal": terminal}
        shapes = {name: np.shape(table) for name, table in given.items()}
        s, a = self.num_states, self._num_actions
        if shapes != {"transition": (s, a, s), "reward": (s, a), "start": (s,), "terminal": (s,)}:
            raise ValueError(
                f"TabularMDP: expected transition [S, A, S], reward [S, A], start [S], terminal [S]; got {shapes}"
            )
        if legal is not None and not (np.shape(legal) == (s, a) and np.all(np.any(legal, axis=1))):
            raise ValueError(f"TabularMDP: legal must be [S, A] = [{s}, {a}] bool, with a legal action in each state")
        self.masked = legal is not None
        # Copies: `asarray` may share the memory of the given arrays, and their owner may write to them.
        self._params: TabularParams = TabularParams(
            transition=jnp.array(transition, jnp.float32),
            reward=jnp.array(reward, jnp.float32),
            start=jnp.array(start, jnp.float32),
            terminal=jnp.array(terminal, bool),
            max_steps_in_episode=horizon,
        )
        if self.masked:
            self._params = MaskedParams(**vars(self._params), legal=jnp.array(legal, bool))

    @property
    def default_params(self) -> TabularParams:
        return self._params

    def reset_env(self, key: Array, params: TabularParams) -> tuple[PyTree, TabularState]:
        state = jax.random.choice(key, self.num_states, p=params.start).astype(jnp.int32)
        return self._seen(state, params), TabularState(state=state, time=jnp.int32(0))

    def step_env(
        self, key: Array, state: TabularState, action: Array, params: TabularParams
    ) -> tuple[PyTree, PyTree, Array, Array, dict[str, Any]]:
        reward = params.reward[state.state, action]
        following = jax.random.choice(key, self.num_states, p=params.transition[state.state, action])
        state = TabularState(state=following.astype(jnp.int32), time=state.time + 1)
        return self._seen(state.state, params), state, reward, self.is_terminated(state, params), {}

    def _seen(self, state: Array, params: TabularParams) -> PyTree:
        return {"observation": state, MASK: params.legal[state]} if isinstance(params, MaskedParams) else state

    def is_terminated(self, state: TabularState, params: TabularParams) -> Array:
        return params.terminal[state.state]

    @property
    def name(self) -> str:
        return "TabularMDP-pgjax"

    @property
    def num_actions(self) -> int:
        return self._num_actions

    def action_space(self, params: PyTree = None) -> spaces.Discrete:
        return spaces.Discrete(self._num_actions)

    def observation_space(self, params: TabularParams) -> Any:
        states = spaces.Discrete(self.num_states)
        mask = spaces.Box(0, 1, (self._num_actions,), jnp.bool_)
        return spaces.Dict({"observation": states, MASK: mask}) if self.masked else states


if "TabularMDP-pgjax" not in registered_envs:
    register("TabularMDP-pgjax", TabularMDP)

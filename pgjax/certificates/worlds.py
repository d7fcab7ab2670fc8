"""The worlds of a certificate: small environments of which every episode can be written down."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from pgjax import oracle
from pgjax.policies.distributions import Categorical
from pgjax.types import Evaluation, Policy, PyTree, Trajectory

POINTS = 12  # more than any world has parameters, so that no matrix fits by their small number


class World(NamedTuple):
    """A finite environment, and a softmax policy of parameters theta [P] in it.

    The preference of a in s is features[s, a] @ theta; where `network`, plus that of two tanh units, whose inputs have
    2 (S - 1) parameters and whose outputs 2 A. The last state, the end, looks like the first: what counts a step after
    an end is seen.
    """

    name: str
    summary: str
    mdp: oracle.MDP
    features: np.ndarray  # [S, A, P]
    network: bool = False
    thetas: np.ndarray | None = None  # [n, P] to look at; None draws POINTS of them by the world's name

    @property
    def size(self) -> int:
        """P."""
        return self.features.shape[-1]

    def points(self) -> np.ndarray:
        """The parameters looked at, [POINTS, P], drawn by the world's name; the last three are far from uniform."""
        if self.thetas is not None:
            return np.asarray(self.thetas, np.float64)
        g = np.random.default_rng([*self.name.encode()])
        return g.normal(size=(POINTS, self.size)) * np.where(np.arange(POINTS) < POINTS - 3, 1.0, 2.0)[:, None]

    def critic(self) -> np.ndarray:
        """Values [T + 1, S] of a critic that has learned nothing: any numbers."""
        g = np.random.default_rng([1, *self.name.encode()])
        return g.normal(size=((self.mdp.horizon or 0) + 1, len(self.mdp.start)))


def softmax_policy(features: ArrayLike, network: ArrayLike, hidden: int = 2) -> Policy:
    """The policy of a world; its parameters are {"actor": theta [P], "value": [T + 1, S]}, values by time and state.

    Args:
      features: [S, A, P].
      network: [] 1 with a network, else 0.
    """
    features = jnp.asarray(features)
    states, actions = features.shape[:2]
    inner = (states - 1) * hidden

    def logits(theta):
        theta_net = jnp.pad(theta, (0, inner + hidden * actions))  # of a world without a network it has too few
        first = jnp.reshape(theta_net[:inner], (-1, hidden))
        first = jnp.concatenate([first, first[:1]])
        second = jnp.reshape(theta_net[inner : inner + hidden * actions], (hidden, actions))
        return features @ theta + network * (jnp.tanh(first) @ second)

    def evaluate(params: PyTree, trajectory: Trajectory) -> Evaluation:
        dist = Categorical(logits(params["actor"])[trajectory.obs])
        value = params["value"][trajectory.time, trajectory.obs]
        following = params["value"][trajectory.time + 1, trajectory.next_obs]
        return Evaluation(dist, dist.log_prob(trajectory.action), dist.entropy(), value, following)

    return Policy(
        init=lambda key: {"actor": jnp.zeros(features.shape[-1]), "value": jnp.zeros(states)},
        memory=lambda batch: (),
        act=lambda params, memory, obs: (Categorical(logits(params["actor"])[obs]), memory),
        evaluate=evaluate,
    )


def _mdp(transition: Any, reward: Any, start: Any, horizon: int) -> oracle.MDP:
    """Of a table whose last state is the end: transition {(s, a): {s': probability}}, reward [S - 1, A]."""
    reward = np.array([*reward, np.zeros(len(reward[0]))], np.float64)
    states, actions = reward.shape
    table = np.zeros((states, actions, states))
    table[-1, :, -1] = 1
    for (s, a), following in transition.items():
        for entered, probability in following.items():
            table[s, a, entered] = probability
    start = np.array([*start, 0.0])
    return oracle.MDP(table, reward, start, np.arange(states) == states - 1, horizon, 1.0)


def _one_step(name: str, summary: str, reward: Any, start: Any, features: np.ndarray) -> World:
    states, actions = np.shape(reward)
    ends = {(s, a): {states: 1.0} for s in range(states) for a in range(actions)}
    return World(name, summary, _mdp(ends, reward, start, 1), features)


def _table(states: int, actions: int) -> np.ndarray:
    """A preference for each action of each state but the last."""
    size = (states - 1) * actions
    return _ended(np.eye(size).reshape(states - 1, actions, size))


def _ended(features: np.ndarray) -> np.ndarray:
    """The features with those of the end, which are those of the first state."""
    return np.concatenate([features, features[:1]])


def _mixed(name: str, states: int, actions: int, size: int) -> np.ndarray:
    """Features that every state shares, drawn by name."""
    return _ended(np.random.default_rng([2, *name.encode()]).normal(size=(states - 1, actions, size)))


def family() -> dict[str, World]:
    """Name -> world: those of one decision first, then those of up to three; smaller ones before larger ones."""
    arms, by_state = _ended(np.stack([np.eye(3), np.zeros((3, 3))])), _table(4, 2)
    one = {(s, a): {3: 1.0} for s in range(3) for a in range(2)}
    chain = {(0, 0): {1: 1.0}, (0, 1): {1: 0.5, 2: 0.5}, (1, 0): {3: 1.0}, (1, 1): {2: 1.0}, (2, 0): {3: 1.0}}
    chain |= {(2, 1): {0: 0.4, 3: 0.6}}
    earned = [[0.5, -1.0], [1.2, 0.3], [-0.7, 2.0]]
    # Sutton & Barto 2018, example 13.1: the second state swaps its actions, and all three look alike.
    short = {(0, 0): {0: 1.0}, (0, 1): {1: 1.0}, (1, 0): {2: 1.0}, (1, 1): {0: 1.0}, (2, 0): {1: 1.0}, (2, 1): {3: 1.0}}
    alike = np.broadcast_to(np.eye(2), (4, 2, 2))
    around = {(s, a): {(s + 1 + a) % 3: 1.0} for s in range(3) for a in range(2)}
    written = {(0, 0): {1: 1.0}, (0, 1): {2: 1.0}} | {key: one[key] for key in one if key[0]}
    going = one | {(0, 1): {1: 1.0}, (1, 1): {2: 1.0}}
    worlds = [
        _one_step("verifier", "one state, three actions, one of them right: 1, else 0",
                  [[1, 0, 0], [0, 0, 0]], [1, 0], arms),
        _one_step("bandit", "one state, three actions that pay 1, 0 and .4",
                  [[1, 0, 0.4], [0, 0, 0]], [1, 0], arms),
        _one_step("prompts", "two starts with other right answers, three parameters for both",
                  [[1, 0, 0], [1, 1, 0]], [0.5, 0.5], _mixed("prompts", 3, 3, 3)),
        World("corridor", "three states that look alike, the second swaps its actions; the end pays 1, a step costs .1",
              _mdp(short, [[-0.1, -0.1], [-0.1, -0.1], [-0.1, 0.9]], [1, 0, 0], 3), alike),
        World("stopping", "stop for 0, 2 or 1, or go on; the length of an episode is what the actions decide",
              _mdp(going, [[0, 0], [2, 0], [1, 0]], [1, 0, 0], 3), by_state),
        World("tokens", "two tokens of two: one sequence pays 1, another .5",
              _mdp(written, [[0, 0], [0, 0.5], [1, 0]], [1, 0, 0], 3), by_state),
        World("clock", "three states, no end but a time limit of three steps; three parameters for all states",
              _mdp(around, earned, [1, 0, 0], 3), _mixed("clock", 4, 2, 3)),
        World("chain", "three states, random transitions and ends, at most three steps",
              _mdp(chain, earned, [1, 0, 0], 3), by_state),
        World("network", "the chain, its policy a network of two tanh units",
              _mdp(chain, earned, [1, 0, 0], 3), np.zeros((4, 2, 10)), True),
    ]  # fmt: skip
    return {world.name: world for world in worlds}

"""Exact values and gradients of a policy in a finite MDP, in float64 numpy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.envs import observations
from pgjax.policies.traits import has_memory
from pgjax.types import Env, Policy, PyTree


class MDP(NamedTuple):
    """A finite Markov decision process; entering a terminal state ends the episode."""

    transition: np.ndarray  # [S, A, S] probabilities P(s' | s, a)
    reward: np.ndarray  # [S, A] expected reward
    start: np.ndarray  # [S] probabilities of the first state
    terminal: np.ndarray  # [S] bool
    horizon: int | None  # T, the time limit; None where there is none
    discount: float
    legal: np.ndarray | None = None  # [S, A] bool: the "action_mask" that is seen beside the state; None where none is


class Values(NamedTuple):
    """A policy's exact values: one row per time step where the MDP has a time limit; 0 at terminal states."""

    objective: np.ndarray  # [] J, the expected discounted return from the start
    value: np.ndarray  # [T + 1, S] with value[T] = 0, or [S]
    action_value: np.ndarray  # [T, S, A] or [S, A]
    advantage: np.ndarray  # [T, S, A] or [S, A]
    occupancy: np.ndarray  # [T, S] P(still running at t, s_t = s), or [S] sum_t gamma^t of it


class Average(NamedTuple):
    """A policy's average reward, and its differential values, for which stationary @ value = 0."""

    gain: np.ndarray  # [] reward per step
    value: np.ndarray  # [S]
    action_value: np.ndarray  # [S, A]
    advantage: np.ndarray  # [S, A]
    stationary: np.ndarray  # [S]


def from_env(env: Env, discount: float) -> MDP:
    """The tables of an enumerable environment, `env.max_steps` its horizon; ValueError where it has none."""
    names = ("transition", "reward", "start", "terminal")
    if missing := [name for name in names if not hasattr(env.params, name)]:
        has = f"needs a TabularMDP's params, with {', '.join(names)}"
        raise ValueError(f"from_env: an enumerable env {has}; {type(env.params).__name__} has no {', '.join(missing)}")
    transition, reward, start = (np.asarray(getattr(env.params, name), np.float64) for name in names[:3])
    # float32 rows sum to 1 within rounding only, and the sampler scales by their sum.
    transition, start = transition / transition.sum(-1, keepdims=True), start / start.sum()
    legal = np.asarray(env.params.legal, bool) if observations.has_mask(env.observation_space) else None
    return MDP(transition, reward, start, np.asarray(env.params.terminal, bool), env.max_steps, discount, legal)


def probabilities(policy: Policy, params: PyTree, num_states: int, legal: np.ndarray | None = None) -> np.ndarray:
    """pi(a | s), [S, A], of a memoryless policy that observes the state's index and acts by a Categorical.

    Args:
      legal: [S, A] as in MDP.
    """
    return _of_policy(jnp.exp, policy, params, num_states, legal)


def scores(policy: Policy, params: PyTree, num_states: int, legal: np.ndarray | None = None) -> np.ndarray:
    """d log pi(a | s) / d params, [S, A, P], the leaves of `params` flattened and joined in jax.tree order."""
    tree = _of_policy(lambda log_pi: log_pi, policy, params, num_states, legal, jax.jacrev)
    return np.concatenate([x.reshape(*x.shape[:2], -1) for x in jax.tree.leaves(tree)], axis=-1)


def values(mdp: MDP, pi: np.ndarray) -> Values:
    """J, v, q, the advantage q - v and the occupancy of a policy's table pi [S, A].

    The Bellman equations q = R + gamma P v and v = sum_a pi q (Sutton & Barto 2018, eq. 3.14), backwards
    in time, or solved at once where there is no time limit; ValueError where gamma = 1 makes them singular.
    """
    mdp, pi = checked_tables(mdp, pi)
    alive = ~mdp.terminal
    through = np.einsum("sa,sax->sx", pi, mdp.transition) * alive
    if mdp.horizon is None:
        system = np.eye(len(pi)) - mdp.discount * through
        v = alive * np.linalg.solve(system, np.sum(pi * mdp.reward, axis=1))
        q = alive[:, None] * (mdp.reward + mdp.discount * mdp.transition @ v)
        return Values(mdp.start @ v, v, q, q - v[:, None], np.linalg.solve(system.T, mdp.start))
    v, q, occupancy = np.zeros((mdp.horizon + 1, len(pi))), np.zeros((mdp.horizon, *pi.shape)), [mdp.start]
    for t in reversed(range(mdp.horizon)):
        q[t] = alive[:, None] * (mdp.reward + mdp.discount * mdp.transition @ v[t + 1])
        v[t] = np.sum(pi * q[t], axis=1)
    while len(occupancy) < mdp.horizon:
        occupancy.append(occupancy[-1] @ through)
    return Values(mdp.start @ v[0], v, q, q - v[:-1, :, None], np.stack(occupancy))


def gradient(mdp: MDP, policy: Policy, params: PyTree) -> tuple[np.ndarray, PyTree]:
    """J and dJ / d params, a tree like `params`: autodiff of the recursion, or of the solve, in `values`."""
    states = len(mdp.start)
    mdp, _ = checked_tables(mdp, probabilities(policy, params, states, mdp.legal))

    def objective(log_pi):
        pi, v = jnp.exp(log_pi), jnp.zeros(states)
        onward = jnp.asarray(mdp.discount * mdp.transition * ~mdp.terminal)
        if mdp.horizon is None:
            system = jnp.eye(states) - jnp.einsum("sa,sax->sx", pi, onward)
            v = jnp.linalg.solve(system, jnp.sum(pi * mdp.reward, axis=1))
        for _ in range(mdp.horizon or 0):
            v = jnp.sum(pi * (mdp.reward + onward @ v), axis=1)
        return mdp.start @ v

    return _of_policy(objective, policy, params, states, mdp.legal, jax.value_and_grad)


def continuing(mdp: MDP) -> MDP:
    """The MDP as a continuing problem: where an episode would end, the next one starts; there is no time limit.

    A transition into a terminal state becomes one into a state drawn from `start`. Terminal states are then never
    entered; they lead to a start too.
    """
    terminal, start = np.asarray(mdp.terminal, bool), np.asarray(mdp.start, np.float64)
    transition = np.asarray(mdp.transition, np.float64)
    ended = np.sum(transition * terminal, axis=-1, keepdims=True)
    transition = np.where(terminal[:, None, None], start, transition * ~terminal + ended * start)
    return mdp._replace(transition=transition, terminal=np.zeros_like(terminal), horizon=None)


def average_reward(mdp: MDP, pi: np.ndarray) -> Average:
    """Gain and differential values of pi [S, A]; horizon and discount play no part.

    v = sum_a pi q with q = R - gain + P v (Sutton & Barto 2018, section 10.3). After a terminal state comes the next
    start, as in `continuing`: the gain is the reward of an episode over its length, by the renewal theorem, and a
    terminal state has the value of a start. ValueError where the stationary distribution is not unique.
    """
    terminal = np.asarray(mdp.terminal, bool)
    mdp, pi = checked_tables(mdp, pi, average=True)
    system = np.eye(len(pi)) - np.einsum("sa,sax->sx", pi, mdp.transition)
    reward = np.sum(pi * mdp.reward, axis=1)
    # A rank-one term makes the singular I - P regular: here it picks the solution that sums to 1 ...
    stationary = np.linalg.solve((system + 1).T, np.ones(len(pi)))
    gain = stationary @ reward
    # ... and here the one with stationary @ v = 0.
    v = np.linalg.solve(system + stationary, reward - gain)
    q = mdp.reward - gain + mdp.transition @ v
    v, q = np.where(terminal, mdp.start @ v, v), np.where(terminal[:, None], mdp.start @ v, q)
    return Average(gain, v, q, q - v[:, None], stationary)


def average_reward_gradient(mdp: MDP, policy: Policy, params: PyTree) -> tuple[np.ndarray, PyTree]:
    """The gain and its gradient, a tree like `params`, by autodiff of the solve in `average_reward`."""
    states = len(mdp.start)
    mdp, _ = checked_tables(mdp, probabilities(policy, params, states, mdp.legal), average=True)

    def gain(log_pi):
        pi = jnp.exp(log_pi)
        system = jnp.eye(states) - jnp.einsum("sa,sax->sx", pi, jnp.asarray(mdp.transition))
        return jnp.linalg.solve((system + 1).T, jnp.ones(states)) @ jnp.sum(pi * mdp.reward, axis=1)

    return _of_policy(gain, policy, params, states, mdp.legal, jax.value_and_grad)


def observed(num_states: int, legal: np.ndarray | None) -> PyTree:
    """What is seen of every state, [S, ...]; `legal` as in MDP."""
    states = jnp.arange(num_states, dtype=jnp.int32)
    return states if legal is None else {"observation": states, observations.MASK: jnp.asarray(legal, bool)}


def _of_policy(
    function: Callable[[jax.Array], Any],
    policy: Policy,
    params: PyTree,
    num_states: int,
    legal: np.ndarray | None,
    transform: Callable[[Callable[[PyTree], Any]], Callable[[PyTree], Any]] = lambda f: f,
) -> PyTree:
    """transform(params -> function(log pi [S, A])) at `params`, in float64, whatever precision the caller uses."""
    if has_memory(policy):
        raise ValueError("oracle: the policy has a memory; exact values need a memoryless policy")

    def of_params(params):
        dist, _ = policy.act(params, policy.memory(num_states), observed(num_states, legal))
        if not hasattr(dist, "log_probs"):
            raise TypeError(f"oracle: the policy must act by a Categorical, got {type(dist).__name__}")
        return function(dist.log_probs())

    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)
        return jax.tree.map(np.array, transform(of_params)(params))


def checked_tables(mdp: MDP, pi: np.ndarray, limited: bool = False, average: bool = False) -> tuple[MDP, np.ndarray]:
    """`mdp` and `pi` in float64 numpy.

    Args:
      limited: whether a finite horizon is needed; average: whether the gain per step is, for a continuing MDP.

    Raises:
      ValueError: for tables that don't fit together or are no probabilities, and where the values don't exist.
    """
    tables = {"transition": mdp.transition, "reward": mdp.reward, "start": mdp.start, "pi": pi}
    tables = {name: np.asarray(table, np.float64) for name, table in tables.items()}
    terminal, (s, a) = np.asarray(mdp.terminal, bool), (*tables["pi"].shape, 0, 0)[:2]
    shapes = [table.shape for table in (*tables.values(), terminal)]
    if shapes != [(s, a, s), (s, a), (s,), (s, a), (s,)]:
        names = ", ".join(tables)
        raise ValueError(f"oracle: {names}, terminal must be [S, A, S], [S, A], [S], [S, A], [S], got {shapes}")
    for name in ("transition", "start", "pi"):
        if not (np.all(tables[name] >= 0) and np.allclose(tables[name].sum(-1), 1, rtol=0, atol=1e-6)):
            raise ValueError(f"oracle: {name} must be probabilities that sum to 1 along its last axis")
    pi = tables.pop("pi")
    if np.any(tables["start"][terminal] > 0):
        raise ValueError("oracle: no episode starts in a terminal state; start must be 0 there")
    if limited if mdp.horizon is None else mdp.horizon < 1:
        raise ValueError(f"oracle: whole episodes need a finite horizon of at least 1, got {mdp.horizon}")
    mdp = MDP(tables["transition"], tables["reward"], tables["start"], terminal, mdp.horizon, mdp.discount, mdp.legal)
    mdp = continuing(mdp) if average else mdp
    if average or (mdp.horizon is None and mdp.discount >= 1):
        # reach: whether pi ever leads from one state to another. Each round doubles the length of the paths.
        reach = np.eye(s) + np.einsum("sa,sax->sx", pi, mdp.transition) > 0
        for _ in range(s.bit_length()):
            reach = np.float64(reach) @ reach > 0
        if average and not np.any(np.all(reach, axis=0)):
            raise ValueError("oracle: the MDP is not unichain under pi; its stationary distribution is not unique")
        if not average and (mdp.discount > 1 or not np.all(np.any(reach[:, terminal], axis=1))):
            limit = "must be below 1, or 1 where every state leads to a terminal one"
            raise ValueError(f"oracle: with horizon None the discount {limit}, got {mdp.discount}")
    return mdp, pi

"""Token environments as an MDP whose states are prompts with the tokens written so far."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import rollout
from pgjax.oracle.mdp import MDP
from pgjax.types import Array, Evaluation, Policy, PyTree, Step, Trajectory


def tabulate(world: Any, held_out: bool = False, discount: float = 1.0, most: int = 2000) -> tuple[MDP, np.ndarray]:
    """A token environment as an MDP over the sequences so far, and the observation of each of its states, [S, L].

    States are each problem's unfinished sequences, breadth first from the prompts, which come first and are equally
    likely; the last state is the end, whose observation is all zeros. Equal sequences of two problems are two states.

    Args:
      world: an `envs.tokens.TokenWorld`, stepped by its own `step_env`.
      held_out: begin with the problems that are kept from training, else with all the others.
      most: the largest number of states allowed; the table of transitions has its square.

    Raises:
      ValueError: where there are more states.
    """

    def step(state, action):
        _, state, reward, done, _ = world.step_env(jax.random.key(0), state, action, world.default_params)
        return state, reward, done

    branch = jax.vmap(jax.vmap(step, (None, 0)), (0, None))
    rows, actions = np.arange(len(world.prompts)), np.arange(world.num_actions)
    problems = rows[-world.kept :] if held_out else rows[: -world.kept]
    level, count, obs, reward, entered = jax.vmap(world.begin)(problems), 0, [], [], []
    while size := len(level.tokens):
        count += size
        if count + 1 > most:
            raise ValueError(
                f"tabulate: there are more than most={most} states; take a smaller environment or raise most"
            )
        after, earned, done = jax.tree.map(np.asarray, branch(level, actions))
        obs.append(np.asarray(level.tokens))
        reward.append(earned.astype(np.float64))
        going = ~done
        # Every unfinished sequence is a distinct state; all finished ones share the last state.
        entered.append(np.where(going, count - 1 + np.cumsum(going).reshape(done.shape), -1))
        level = jax.tree.map(lambda x, going=going: x[going], after)
    transition = np.zeros((count + 1, len(actions), count + 1))
    transition[np.arange(count)[:, None], actions, np.concatenate(entered)] = 1
    transition[count, :, count] = 1
    mdp = MDP(
        transition=transition,
        reward=np.concatenate([*reward, np.zeros((1, len(actions)))]),
        start=np.where(np.arange(count + 1) < len(problems), 1 / len(problems), 0.0),
        terminal=np.arange(count + 1) == count,
        horizon=world.default_params.max_steps_in_episode,
        discount=discount,
    )
    return mdp, np.concatenate([*obs, np.zeros_like(obs[0][:1])])


def observing(policy: Policy, obs: np.ndarray) -> Policy:
    """A memoryless policy of state indices: at state s it does what `policy` does at the observation obs[s].

    The memory of `policy` must hold nothing but past observations, as the transformer's cache does. Each step is
    evaluated as an episode of its own, since `act` takes a fresh memory for that of a bare prompt.
    """

    def evaluate(params: PyTree, trajectory: Trajectory) -> Evaluation:
        shape = trajectory.mask.shape
        alone = jax.tree.map(lambda x: jnp.reshape(x, (1, -1)), trajectory._replace(memory=()))
        seen = {name: jnp.asarray(obs)[getattr(alone, name)] for name in ("obs", "next_obs")}
        alone = alone._replace(**seen, memory=policy.memory(alone.mask.size))
        return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[2:]), policy.evaluate(params, alone))

    def act(params: PyTree, memory: PyTree, index: Array) -> tuple[Any, PyTree]:
        none, nothing, never = jnp.zeros_like(index), jnp.zeros(index.shape), jnp.zeros(index.shape, bool)
        seen = Step(index, nothing, never, never)
        return evaluate(params, rollout.row(index, none, none, nothing, seen, jnp.ones(index.shape))).dist, memory

    return Policy(init=policy.init, memory=lambda batch: (), act=act, evaluate=evaluate)

"""Imitation learning: collects an expert's episodes and fits a policy to them by cross-entropy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pgjax import rollout
from pgjax.types import Array, Env, Evaluation, Policy, PyTree, Trajectory


def _unasked(params: PyTree, trajectory: Trajectory) -> Evaluation:
    raise NotImplementedError("the expert is asked for actions alone")


class _Certain(NamedTuple):
    """A deterministic distribution: always `action`, a tree of arrays [B, ...]."""

    action: PyTree

    def sample(self, key: Array) -> PyTree:
        return self.action

    def log_prob(self, action: PyTree) -> Array:
        return jnp.zeros(len(jax.tree.leaves(action)[0]))


def demonstrations(key: Array, env: Env, count: int, env_params: PyTree = None) -> Trajectory:
    """`count` whole episodes [T, B] of the environment's expert, as `rollout.episodes` has them; log_prob is 0.

    Raises:
      ValueError: for an environment without one.
    """
    expert = env.expert
    if expert is None:
        raise ValueError(
            "pretrain needs an expert, and the environment has none; use pretrain=0, or give the Env an `expert`"
        )

    def beside(params, state, obs):
        return obs, expert(params, state)

    def reset(key, params):
        state, obs = env.reset(key, params)
        return state, beside(params, state, obs)

    def step(key, params, state, action):
        state, seen = env.step(key, params, state, action)
        return state, seen._replace(obs=beside(params, state, seen.obs))

    told = Policy(
        init=lambda key: (),
        memory=lambda batch: (),
        act=lambda params, memory, obs: (_Certain(obs[1]), memory),
        evaluate=_unasked,
    )
    shown = env._replace(reset=reset, step=step)
    rows, _ = rollout.episodes(key, shown, told, (), count, env_params=env_params)
    return rows._replace(obs=rows.obs[0], next_obs=rows.next_obs[0])


def fit(
    key: Array,
    params: PyTree,
    loss: Callable[[PyTree, PyTree], Array],
    rows: PyTree,
    steps: int,
    *,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
) -> tuple[PyTree, Array]:
    """`steps` of Adam down `loss(params, some of the rows)`; the parameters, and the losses [steps].

    Args:
      rows: a tree of arrays [N, ...], of which `batch_size` are drawn for each step.
    """
    optimizer, rows = optax.adam(learning_rate), jax.tree.map(jnp.asarray, rows)
    count = len(jax.tree.leaves(rows)[0])

    def step(carry, key):
        params, state = carry
        index = jax.random.randint(key, (batch_size,), 0, count)
        value, gradient = jax.value_and_grad(loss)(params, jax.tree.map(lambda x: x[index], rows))
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(key, steps))
    return params, losses


def swapped(episodes: Trajectory) -> Trajectory:
    """[T, N, ...] as [N, T, ...], and the other way round."""
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), episodes)


def imitate(key: Array, policy: Policy, params: PyTree, episodes: Trajectory, steps: int, **options: Any) -> PyTree:
    """The policy after `steps` gradient steps of cross-entropy on the actions of `episodes` [T, B]; see `fit`."""
    columns = swapped(episodes._replace(memory=()))

    def loss(params, rows):
        shown = swapped(rows)
        shown = shown._replace(memory=policy.memory(shown.mask.shape[1]))
        log_prob = jnp.where(shown.mask > 0, policy.evaluate(params, shown).log_prob, 0.0)
        return -jnp.sum(log_prob) / jnp.sum(shown.mask)

    return fit(key, params, loss, columns, steps, **options)[0]


def pretrained(env: Env, policy: Policy, steps: int, examples: int) -> Callable[[Array, PyTree], PyTree]:
    """(key, env_params) -> the policy's parameters after `steps` of supervision on `examples` episodes.

    -1 steps are 225 where the environment has an expert, otherwise 0.
    """
    if steps < -1 or examples < 1:
        raise ValueError(f"pretrain must be -1 or more and examples 1 or more, got {steps} and {examples}")
    if steps == -1:
        steps = 225 if env.expert else 0

    def init(key: Array, env_params: PyTree) -> PyTree:
        if not steps:
            return policy.init(key)
        key_params, key_shown, key_fit = jax.random.split(key, 3)
        shown = demonstrations(key_shown, env, examples, env_params)
        return imitate(key_fit, policy, policy.init(key_params), shown, steps)

    return init

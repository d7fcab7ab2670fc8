"""A world that knows an expert in; episodes of it, and a policy that was taught by them, out."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from pgjax.types import Array, Env, Policy, PyTree, Trajectory


def demonstrations(key: Array, env: Env, count: int, env_params: PyTree = None) -> Trajectory:
    """`count` whole episodes [T, B] of the world's expert, masked after their end; log_prob is 0.

    Raises:
      ValueError: for a world without one.
    """
    if env.expert is None:
        raise ValueError(
            "the world has no expert to be shown, which pretrain needs; use pretrain=0, or give the Env an `expert`"
        )
    params = env.params if env_params is None else env_params
    key_start, key_steps = jax.random.split(key)
    state, obs = jax.vmap(env.reset, (0, None))(jax.random.split(key_start, count), params)

    def step(carry, inputs):
        state, obs, alive = carry
        t, key = inputs
        action = jax.vmap(env.expert, (None, 0))(params, state)
        state, seen = jax.vmap(env.step, (0, None, 0, 0))(jax.random.split(key, count), params, state, action)
        row = Trajectory(
            obs=obs,
            action=action,
            log_prob=jnp.zeros(count),
            reward=jnp.where(alive, seen.reward, 0.0),
            terminated=seen.terminated & alive,
            truncated=seen.truncated & alive,
            next_obs=seen.obs,
            mask=alive.astype(jnp.float32),
            time=jnp.full(count, t),
            memory=(),
        )
        return (state, seen.obs, alive & ~(seen.terminated | seen.truncated)), row

    inputs = (jnp.arange(env.max_steps), jax.random.split(key_steps, env.max_steps))
    return jax.lax.scan(step, (state, obs, jnp.ones(count, bool)), inputs)[1]


def fit(
    key: Array,
    params: PyTree,
    loss: Callable,
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


def imitate(key: Array, policy: Policy, params: PyTree, episodes: Trajectory, steps: int, **options) -> PyTree:
    """The policy after `steps` gradient steps of cross-entropy on the actions of `episodes` [T, B]; see `fit`."""
    columns = swapped(episodes._replace(memory=()))

    def loss(params, rows):
        shown = swapped(rows)
        shown = shown._replace(memory=policy.memory(shown.mask.shape[1]))
        log_prob = jnp.where(shown.mask > 0, policy.evaluate(params, shown).log_prob, 0.0)
        return -jnp.sum(log_prob) / jnp.sum(shown.mask)

    return fit(key, params, loss, columns, steps, **options)[0]


def pretrained(env: Env, policy: Policy, steps: int, examples: int) -> Callable:
    """(key, env_params) -> the policy's parameters after `steps` of supervision on `examples` episodes.

    -1 steps are 225 where the world has an expert, and none where it has not.
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

"""The pathwise estimator of the gradient of J, for environments that can be differentiated.

The score function uses rewards alone. This estimator differentiates the return itself: an action is a function of the
policy's parameters and of noise, a = mu + sigma eps, and the environment is a function of states and actions, so

    dJ = E_eps[ d/d theta sum_t gamma^t r(s_t, a_t) ],   a_t = mu_theta(s_t) + sigma_theta(s_t) eps_t

(Williams 1992, sec. 7.2; Kingma & Welling 2014, sec. 2.4; compared with the score function in Mohamed et al. 2020,
sec. 5.3). The deterministic policy gradient (Silver et al. 2014) is its limit of sigma -> 0 with a critic in place
of the environment.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import rollout
from pgjax.types import Array, Env, Policy, PyTree


def pathwise(
    env: Env, policy: Policy, num_steps: int | None = None, *, discount: float = 0.99, batch: int = 1
) -> Callable[[Array, PyTree], PyTree]:
    """`gradient(key, params)`, an unbiased estimate of the gradient of J by `batch` whole episodes; it ascends.

    Unbiased where reward and next state are continuous in the action. It misses jumps: an end that depends on the
    state (only time may end an episode), a reward for being somewhere.

    Args:
      num_steps: of an episode at most; by default the time limit.
      batch: episodes of one estimate, as in `variance.Sampler(pathwise(..., batch=16), batch=16)`.

    Raises:
      ValueError: where actions are discrete, or the derivative of the policy's actions, or of the next states
        or rewards by the action, is cut off.
    """
    steps = env.max_steps if num_steps is None else min(num_steps, env.max_steps)
    for name, value in (("num_steps", steps), ("batch", batch)):
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")
    _check(env, policy)

    def mean_return(params: PyTree, key: Array) -> Array:
        key_start, key_steps = jax.random.split(key)
        stream = rollout.start(key_start, env, policy, batch)

        def step(carry, inputs):
            state, obs, memory, alive = carry
            key, t, weight = inputs
            # After its end an episode begins again: steps from a final state may have a derivative of NaN, which a
            # factor of 0 doesn't undo.
            state, obs = (rollout.where(alive, a, b) for a, b in ((state, stream.env), (obs, stream.obs)))
            keys = jax.random.split(key, 1 + batch)
            dist, memory = policy.act(params, memory, obs)
            moved, seen = rollout.step_envs(keys[1:], env, env.params, state, t, dist.sample(keys[0]))
            paid = weight * jnp.mean(jnp.where(alive, seen.reward, 0.0))
            return (moved, seen.obs, memory, alive & ~(seen.terminated | seen.truncated)), paid

        # A scan and not `scan_while`, which has no reverse.
        carry = (stream.env, stream.obs, stream.memory, jnp.ones(batch, bool))
        weights = discount ** jnp.arange(steps, dtype=jnp.float32)
        inputs = (jax.random.split(key_steps, steps), jnp.arange(steps), weights)
        return jnp.sum(jax.lax.scan(step, carry, inputs)[1])

    def gradient(key: Array, params: PyTree) -> PyTree:
        return jax.grad(mean_return)(params, key)

    return gradient


def _check(env: Env, policy: Policy, samples: int = 64, steps: int = 8) -> None:
    """Raise an error where an action, a reward or a next state moves but its derivative is 0."""
    if not hasattr(env.action_space, "low"):
        raise ValueError(f"pathwise differentiates by the action, and the action space is {env.action_space}")
    if env.host is not None:
        raise ValueError("env: pathwise needs an environment in JAX, but this one is stepped in Python")

    def acting(key):
        """Whether a sample of the untrained policy has a derivative by the parameters."""
        key_init, key_reset, key_sample = jax.random.split(key, 3)
        params = policy.init(key_init)
        _, obs = env.reset(key_reset, env.params)
        obs = jax.tree.map(lambda x: x[None], obs)
        act = lambda p: policy.act(p, policy.memory(1), obs)[0].sample(key_sample)  # noqa: E731
        return jax.jvp(act, (params,), (jax.tree.map(jnp.ones_like, params),))[1]

    def walking(key):
        """Of one step from a state of a random walk: how far another action changes it; and its derivative."""
        key_reset, key_walk, *key_actions = jax.random.split(key, 4)

        def step(state, key):
            following, seen = env.step(key, env.params, state, env.action_space.sample(key))
            ended = seen.terminated | seen.truncated
            return jax.tree.map(lambda a, b: jnp.where(ended, a, b), state, following), None

        state, _ = jax.lax.scan(step, env.reset(key_reset, env.params)[0], jax.random.split(key_walk, steps))
        one, other = (jnp.asarray(env.action_space.sample(k), jnp.float32) for k in key_actions)

        def after(action):
            following, seen = env.step(key_reset, env.params, state, action)
            return _floats({"state": following, "obs": seen.obs, "reward": seen.reward})

        came, derivative = jax.jvp(after, (one,), (jnp.ones_like(one),))
        away = jax.tree.map(lambda x, y: jnp.max(jnp.abs(x - y), initial=0.0), after(other), came)
        return away, jax.tree.map(lambda x: jnp.max(jnp.abs(x), initial=0.0), derivative)

    keys = jax.random.split(jax.random.key(0), samples)
    # Loops are compiled as a whole, without a jit of ours.
    if not np.any(np.asarray(jax.lax.map(acting, keys[:4]))):
        raise ValueError("pathwise: the policy's samples have no derivative by its parameters")
    away, derivative = jax.tree.map(np.asarray, jax.lax.map(walking, keys))
    for name, moved in away.items():
        if np.any(moved > 0) and not np.any(derivative[name]):
            raise ValueError(
                f"pathwise: {name} depends on the action, but its derivative by the action is 0; use an environment "
                "that can be differentiated"
            )


def _floats(tree: Any) -> dict[str, Array]:
    """Path -> every leaf of a tree that is a real number."""
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    named = {jax.tree_util.keystr(path, simple=True, separator="."): jnp.asarray(x) for path, x in found}
    return {name: x for name, x in named.items() if jnp.issubdtype(x.dtype, jnp.floating)}

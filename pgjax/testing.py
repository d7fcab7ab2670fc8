"""The conformance kit: one function for each kind of plug; raises AssertionError, naming what is wrong.

For the user's own plugs as for those shipped: `check_loss(my_loss)` in a test is all it takes.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import envs, policies, rollout, train
from pgjax.plugs import bind, hyperparameters, name_of
from pgjax.transformers import needs_whole_episodes
from pgjax.types import Batch, Config, Env, Hypers, Learner, Policy, RunningAdvantage
from pgjax.variance.conformance import UndecidedError as UndecidedError  # part of the kit
from pgjax.variance.conformance import check_unbiased as check_unbiased


def check_env(env: Env, steps: int = 20) -> None:
    """Pure, of fixed shapes and types, scalars where scalars belong, never terminated and truncated at once."""
    _require(not env.host, "check_env steps worlds of pure functions; this one is stepped on the host")
    key = jax.random.key(0)
    state, obs = env.reset(key, env.params)
    expected = jax.tree.map(_kind, (state, obs))
    _require(
        jnp.shape(obs) == tuple(env.observation_space.shape),
        f"reset gave obs of shape {jnp.shape(obs)}, the space says {env.observation_space.shape}",
    )
    _require(
        isinstance(env.max_steps, int) and env.max_steps > 0, f"max_steps is {env.max_steps!r}, not a positive int"
    )
    step = jax.jit(env.step)
    for i in range(steps):
        key_action, key_step = jax.random.split(jax.random.fold_in(key, i))
        action = env.action_space.sample(key_action)
        following, seen = step(key_step, env.params, state, action)
        if i == 0:
            again = env.step(key_step, env.params, state, action)
            _require(_close((following, seen), again), "jit and eager steps differ: is the step pure?")
        got = jax.tree.map(_kind, (following, seen.obs))
        _require(got == expected, f"step changes shapes or types: {expected} became {got}")
        for field, dtype in (("reward", jnp.float32), ("terminated", bool), ("truncated", bool)):
            _require(
                _kind(getattr(seen, field)) == ((), jnp.dtype(dtype)),
                f"step gave {field} {_kind(getattr(seen, field))}, expected a scalar {jnp.dtype(dtype)}",
            )
        _require(not (seen.terminated & seen.truncated), "a step is terminated and truncated at once")
        _require(train.all_finite((following, seen)), "a number is not finite")
        state = following
        if seen.terminated | seen.truncated:
            state, _ = env.reset(key_step, env.params)


def check_policy(policy: Policy, env: Env, num_envs: int = 3, num_steps: int = 12) -> None:
    """Shapes [T, B]; what `evaluate` says of a rollout is what `act` said on the way."""
    key = jax.random.key(0)
    params = jax.jit(policy.init)(key)
    stream = jax.jit(lambda: rollout.start(key, env, policy, num_envs))()
    following, trajectory = jax.jit(lambda p, s: rollout.unroll(key, env, policy, p, s, num_steps))(params, stream)
    if needs_whole_episodes(policy):
        num_steps = env.max_steps
        trajectory, _ = jax.jit(lambda p: rollout.episodes(key, env, policy, p, num_envs))(params)
    now = jax.jit(policy.evaluate)(params, trajectory)
    for field in ("log_prob", "entropy", "value", "next_value"):
        got = jnp.shape(getattr(now, field))
        _require(
            got == (num_steps, num_envs),
            f"evaluate gave {field} of shape {got}, expected [T, B] = {(num_steps, num_envs)}",
        )
    _require(
        _close(now.log_prob * trajectory.mask, trajectory.log_prob * trajectory.mask, 1e-4),
        "evaluate and act give other log-probabilities for the same step",
    )
    _require(_same_kinds(stream.memory, following.memory), "act changes the memory's shapes or types")
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(policy.evaluate(p, trajectory).log_prob)))(params)
    _require(train.all_finite(gradient), "the gradient of log_prob is not finite")


@functools.cache
def _example() -> tuple[Policy, Any, Batch]:
    env = envs.make("TabularMDP-pgjax", terminal=np.arange(5) == 4)
    return example(policies.make(env, Config(critic="action_value")), env)  # has whatever a plug may ask for


def example(policy: Policy | None = None, env: Env | None = None) -> tuple[Policy, Any, Batch]:
    """A small policy, its parameters and a batch [T, B] of whole episodes with steps behind their ends.

    The parameters are others than those that acted, so probability ratios differ from 1.
    """
    if policy is None and env is None:
        return _example()
    if policy is None or env is None:
        raise ValueError("give both policy and env, or neither")

    def build(key):
        key_params, key_other, key_episodes, key_batch = jax.random.split(key, 4)
        params = policy.init(key_params)
        trajectory, _ = rollout.episodes(key_episodes, env, policy, params, 4, min(env.max_steps, 12))
        leaves, tree = jax.tree.flatten(params)
        keys = jax.random.split(key_other, len(leaves))
        moved = [x + 0.3 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
        params = tree.unflatten(moved)
        advantage, target = jax.random.normal(key_batch, (2, *trajectory.mask.shape))
        return params, Batch(trajectory, advantage, target, policy.evaluate(params, trajectory).value)

    return policy, *jax.jit(build)(jax.random.key(0))


def check_loss(loss: Any, **hypers: Any) -> None:
    """One loss per step, each of its own step alone; finite gradients; rows [N] as well as [T, B]."""
    loss = bind(loss, **hypers)
    policy, params, batch = example()

    def per_step(advantage):
        return loss(policy.evaluate(params, batch.trajectory), batch._replace(advantage=advantage))[0]

    mask = batch.trajectory.mask
    value = per_step(batch.advantage)
    _require(
        jnp.shape(value) == mask.shape,
        f"{name_of(loss)} returned shape {jnp.shape(value)}, expected one loss per step, [T, B] = {mask.shape}",
    )
    jacobian = jax.jit(jax.jacobian(per_step))(batch.advantage).reshape(mask.size, mask.size)
    _require(
        np.all(jacobian == np.diag(np.diag(jacobian))),
        f"{name_of(loss)}: a step's loss depends on another step's advantage: is there a mean inside?",
    )
    total = lambda p: jnp.sum(loss(policy.evaluate(p, batch.trajectory), batch)[0])  # noqa: E731
    gradient = jax.jit(jax.grad(total))(params)
    _require(train.all_finite(gradient), f"{name_of(loss)}: the gradient is not finite")
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
    _require(
        _close(loss(policy.evaluate(params, rows.trajectory), rows)[0], value.reshape(-1)),
        f"{name_of(loss)}: rows [N] and [T, B] give different losses",
    )
    _require(_close(jax.jit(per_step)(batch.advantage), value), f"{name_of(loss)}: jit and eager differ")


def check_advantage(advantage: Any, **hypers: Any) -> None:
    """Shapes [T, B]; the time-limit rule, unless a `gain_rate` goes on after ends; nothing after an episode counts."""
    plug = bind(advantage, **hypers)
    name = name_of(plug)
    policy, params, batch = example()
    trajectory, now = batch.trajectory, jax.jit(policy.evaluate)(params, batch.trajectory)

    def apply(trajectory, now):
        if isinstance(plug, RunningAdvantage):
            return plug.apply(plug.init(), trajectory, now)[1]
        return plug(trajectory, now)

    both = apply(trajectory, now)
    for what, x in zip(("advantage", "target"), both, strict=True):
        _require(
            jnp.shape(x) == trajectory.mask.shape,
            f"{name} returned {what} of shape {jnp.shape(x)}, expected [T, B] = {trajectory.mask.shape}",
        )
        _require(train.all_finite(x), f"{name}: {what} is not finite")
    counts = trajectory.mask > 0
    other = apply(trajectory, now._replace(next_value=jnp.where(trajectory.terminated, 99.0, now.next_value)))
    _require(
        "gain_rate" in hyperparameters(plug)  # whose next_value is that of the next start
        or _close(*(jax.tree.map(lambda x: jnp.where(counts, x, 0.0), pair) for pair in (both, other))),
        f"{name} bootstraps from a terminated step",
    )
    garbled = trajectory._replace(reward=jnp.where(counts, trajectory.reward, 99.0))
    behind = now._replace(value=jnp.where(counts, now.value, 99.0), next_value=jnp.where(counts, now.next_value, 99.0))
    other = apply(garbled, behind)
    _require(
        _close(*(jax.tree.map(lambda x: jnp.where(counts, x, 0.0), pair) for pair in (both, other))),
        f"{name}: what stands behind an episode's end counts",
    )
    _require(_close(jax.jit(apply)(trajectory, now), both), f"{name}: jit and eager differ")


def check_estimator(estimator: Any, policy: Policy | None = None, env: Env | None = None, **hypers: Any) -> None:
    """The tree of the parameters, finite, honours the mask; jit equals eager and vmap a loop; traced once."""
    estimator = bind(estimator, **hypers)
    name = name_of(estimator)
    policy, params, batch = example(policy, env)
    traces = []

    def gradient(key, params, batch):
        traces.append(1)
        return estimator(key, policy, params, batch)

    key = jax.random.key(1)
    eager, metrics = gradient(key, params, batch)
    _require(
        jax.tree.structure(eager) == jax.tree.structure(params) and _same_kinds(eager, params),
        f"{name}: the gradient hasn't the tree of the parameters",
    )
    _require(train.all_finite(eager), f"{name}: the gradient is not finite")
    for metric, x in metrics.items():
        _require(jnp.shape(x) == (), f"{name}: metric {metric!r} has shape {jnp.shape(x)}, expected a scalar")
    traces.clear()
    compiled = jax.jit(gradient)
    fast = compiled(key, params, batch)[0]
    compiled(jax.random.key(2), params, batch)
    _require(len(traces) == 1, f"{name} was traced {len(traces)} times for the same shapes")
    _require(_close(fast, eager, 1e-4), f"{name}: jit and eager differ")
    counts = batch.trajectory.mask > 0
    garbled = batch._replace(
        advantage=jnp.where(counts, batch.advantage, 99.0), target=jnp.where(counts, batch.target, 99.0)
    )
    _require(
        _close(compiled(key, params, garbled)[0], eager, 1e-4), f"{name}: what stands behind an episode's end counts"
    )
    lanes = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x]), params)
    together = jax.jit(jax.vmap(lambda p: gradient(key, p, batch)[0]))(lanes)
    apart = [compiled(key, jax.tree.map(lambda x: x[i], lanes), batch)[0] for i in range(2)]  # noqa: B023
    _require(_close(together, jax.tree.map(lambda *x: jnp.stack(x), *apart), 1e-4), f"{name}: vmap and a loop differ")


def check_learner(made: Learner, hypers: Hypers, tolerance: float = 1e-3) -> None:
    """State of fixed shapes, scalar metrics, one trace, the same key the same result, vmap equal to a loop."""
    keys = jax.random.split(jax.random.key(0), 2)
    state = jax.jit(made.init)(keys[0], hypers)
    traces = []

    def step(key, state):
        traces.append(1)
        return made.step(key, state, hypers)

    compiled = jax.jit(step)
    following, metrics = compiled(keys[0], state)
    _require(_same_kinds(state, following), "step changes the state's shapes or types")
    for name, x in metrics.items():
        _require(jnp.shape(x) == (), f"metric {name!r} has shape {jnp.shape(x)}, expected a scalar")
    compiled(keys[1], following)
    _require(len(traces) == 1, f"step was traced {len(traces)} times for the same shapes")
    params = made.policy(following)[1]
    _require(train.all_finite(params), "the parameters are not finite after one step")
    _require(_close(made.policy(compiled(keys[0], state)[0])[1], params, 0.0), "the same key gave another result")
    states = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    together = made.policy(jax.jit(jax.vmap(step))(keys, states)[0])[1]
    for i in range(2):
        alone = made.policy(compiled(keys[i], state)[0])[1]
        _require(_close(jax.tree.map(lambda x: x[i], together), alone, tolerance), "vmap and a loop differ")  # noqa: B023


def _require(condition: Any, message: str) -> None:
    if not bool(condition):
        raise AssertionError(message)


def _kind(x: Any) -> tuple:
    return jnp.shape(x), jnp.asarray(x).dtype


def _same_kinds(a: Any, b: Any) -> bool:
    return jax.tree.structure(a) == jax.tree.structure(b) and jax.tree.map(_kind, a) == jax.tree.map(_kind, b)


def _close(a: Any, b: Any, tolerance: float = 1e-5) -> bool:
    def near(x, y):
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return bool(jnp.all(x == y))
        return bool(jnp.allclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True))

    return all(jax.tree.leaves(jax.tree.map(near, a, b)))

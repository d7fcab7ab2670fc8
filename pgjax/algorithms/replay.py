"""An agent that learns from what others did, in; a Learner with a replay buffer out.

One step acts for [T, B] steps, adds them to the buffer, and makes `gradient_steps` steps of the optimiser, each on
`batch_size` rows [N] drawn uniformly, with replacement, from the latest `buffer_size`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pgjax import rollout
from pgjax.algorithms import compatibility
from pgjax.algorithms.replay_options import check_replay
from pgjax.config import Config
from pgjax.dependencies import importing
from pgjax.envs.parameters import with_params
from pgjax.hyperparameters import hyperparameters, name_of
from pgjax.policies.action_values import exploring_actor
from pgjax.training.failures import Unselected
from pgjax.types import (
    AdvantageFn,
    Algorithm,
    Array,
    Batch,
    Env,
    EstimatorFn,
    Evaluation,
    Hypers,
    Learner,
    Policy,
    PyTree,
    Trajectory,
)

with importing("flashbax"):
    import flashbax


MakeOptimizer = Callable[..., optax.GradientTransformation]


class Agent(NamedTuple):
    """What learners with replay differ in; their gradient is the Algorithm's estimator."""

    policy: Policy
    init: Callable[[Array, Hypers], PyTree]  # (key, hypers) -> params
    followed: Callable[[PyTree], PyTree]  # params -> the ones whose running mean are the target networks
    # (key, params, targets, rows, hypers) -> Evaluation [N]; next_value is that of the targets
    evaluate: Callable[[Array, PyTree, PyTree, Trajectory, Hypers], Evaluation]
    # (environment steps so far, hypers) -> [] share of uniform actions, after the warm-up
    explore: Callable[[Array, Hypers], Array | float]
    # the Algorithm's optimizer -> the one of all parameters, where not all move at every gradient step
    optimizer: Callable[[MakeOptimizer], MakeOptimizer] = lambda optimizer: optimizer


class ReplayState(NamedTuple):
    """All that a learner with replay carries from update to update."""

    params: PyTree
    targets: PyTree
    optimizer: PyTree
    rollout: PyTree  # RolloutState
    buffer: Unselected  # flashbax's, a pytree of arrays
    env_steps: Array  # [] int32
    gradient_steps: Array  # [] int32
    explore: Array  # [] share of uniform actions of what acts next


class Setup(NamedTuple):
    """What `make_learner` was given, checked, and what follows from it."""

    env: Env
    agent: Agent
    advantage: AdvantageFn
    estimator: EstimatorFn
    optimizer: MakeOptimizer
    config: Config
    options: dict[str, Any]  # the estimator's hyperparameters
    buffer: Any  # flashbax's functions


def make_learner(env: Env, agent: Agent, algorithm: Algorithm, config: Config) -> Learner:
    """The Learner of an agent. Before `warmup` is over its losses are measured but not descended.

    Raises:
      ValueError: for options that have no meaning here or don't fit together, before anything is traced.
    """
    advantage, estimator, optimizer = check_replay(env, algorithm, config)
    options = hyperparameters(algorithm.estimator)
    buffer = flashbax.make_item_buffer(options["buffer_size"], 1, options["batch_size"], add_batches=True)
    setup = Setup(env, agent, advantage, estimator, agent.optimizer(optimizer), config, options, buffer)
    return Learner(
        init=functools.partial(_init, setup),
        policy=lambda state: (agent.policy, state.params),
        behaviour=functools.partial(_behaviour, setup),
        collect=functools.partial(_collect, setup),
        learn=functools.partial(_learn, setup),
    )


def _init(setup: Setup, key: Array, hypers: Hypers) -> ReplayState:
    env, agent = setup.env, setup.agent
    key_params, key_envs = jax.random.split(key)
    env_params = with_params(env, hypers.env)
    params = agent.init(key_params, hypers)
    stream = rollout.start(key_envs, env, agent.policy, setup.config.num_envs, env_params)
    acting = exploring_actor(env, agent.policy, params, 1.0)
    # For shapes and types alone: nothing is drawn from the key.
    trajectory = jax.eval_shape(lambda: rollout.unroll(key, env, *acting, stream, 1, env_params))[1]
    rows = jax.tree.map(lambda x: jnp.zeros(x.shape[2:], x.dtype), trajectory)
    return ReplayState(
        params=params,
        targets=jax.tree.map(jnp.copy, agent.followed(params)),  # a donated array may be given only once
        optimizer=setup.optimizer(**hypers.optimizer).init(params),
        rollout=stream,
        buffer=Unselected(setup.buffer.init(rows)),
        env_steps=jnp.int32(0),
        gradient_steps=jnp.int32(0),
        explore=_share(setup, jnp.int32(0), hypers),
    )


def _share(setup: Setup, env_steps: Array, hypers: Hypers) -> Array:
    """[] the share of uniform actions after so many environment steps."""
    warming = env_steps < setup.options["warmup"]
    return jnp.where(warming, 1.0, setup.agent.explore(env_steps, hypers)).astype(jnp.float32)


def _behaviour(setup: Setup, state: ReplayState) -> tuple[Policy, PyTree]:
    return exploring_actor(setup.env, setup.agent.policy, state.params, state.explore)


def _collect(
    setup: Setup, key: Array, acting: Policy, params: PyTree, state: ReplayState, hypers: Hypers
) -> tuple[PyTree, Trajectory]:
    env, env_params = setup.env, with_params(setup.env, hypers.env)
    return rollout.unroll(key, env, acting, params, state.rollout, setup.config.num_steps, env_params)


def _learn(
    setup: Setup, key: Array, state: ReplayState, stream: PyTree, trajectory: Trajectory, hypers: Hypers
) -> tuple[ReplayState, dict[str, Array]]:
    key_rows, key_steps = jax.random.split(key)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), trajectory._replace(memory=()))
    kept = setup.buffer.add(state.buffer.value, flat)
    env_steps = state.env_steps + flat.reward.shape[0]
    learning = env_steps >= setup.options["warmup"]
    # All at once: inside the loop the buffer would be one more value to carry.
    keys = jax.random.split(key_rows, setup.options["gradient_steps"])
    with jax.numpy_rank_promotion("allow"):  # flashbax adds [N, 1] and [1]
        rows = jax.vmap(lambda key: setup.buffer.sample(kept, key).experience)(keys)
    drawn = rows, jax.random.split(key_steps, setup.options["gradient_steps"])

    def descend(carry, inputs):
        moved, metrics = _descend(setup, hypers, carry, *inputs)
        return jax.tree.map(lambda new, old: jnp.where(learning, new, old), moved, carry), metrics

    carry = (state.params, state.targets, state.optimizer, state.gradient_steps)
    (params, targets, optimizer, count), metrics = jax.lax.scan(descend, carry, drawn)
    following = ReplayState(
        params=params,
        targets=targets,
        optimizer=optimizer,
        rollout=stream,
        buffer=Unselected(kept),
        env_steps=env_steps,
        gradient_steps=count,
        explore=_share(setup, env_steps, hypers),
    )
    return following, {
        **rollout.lately(stream, trajectory),
        **jax.tree.map(jnp.mean, metrics),
        "gradient_steps": (count - state.gradient_steps).astype(jnp.float32),
        "epsilon": state.explore,
        "env_steps": jnp.sum(trajectory.mask),
    }


def _descend(
    setup: Setup, hypers: Hypers, carry: tuple[PyTree, PyTree, PyTree, Array], rows: Trajectory, key: Array
) -> tuple[tuple[PyTree, PyTree, PyTree, Array], dict[str, Array]]:
    """One gradient step on the rows [N]: (params, targets, optimizer state, gradient steps so far), and metrics."""
    agent = setup.agent
    params, targets, optimizer, count = carry
    key_target, key_gradient = jax.random.split(key)
    now = agent.evaluate(key_target, params, targets, rows, hypers)
    output = jax.lax.stop_gradient(setup.advantage(rows, now, **hypers.advantage))
    weight, goal, extra = compatibility.checked_advantage(name_of(setup.advantage), output, rows.mask)
    batch = Batch(rows, weight, goal, now.value, jax.lax.stop_gradient(now), extra)
    gradient, metrics = setup.estimator(key_gradient, agent.policy, params, batch, **hypers.estimator)
    transform = setup.optimizer(**hypers.optimizer)
    updates, optimizer = transform.update(gradient, optimizer, params)
    params, count = optax.apply_updates(params, updates), count + 1
    tau = jnp.where(count % setup.options["target_period"] == 0, hypers.estimator["tau"], 0.0)
    targets = optax.incremental_update(agent.followed(params), targets, tau)
    return (params, targets, optimizer, count), {**metrics, "grad_norm": optax.tree.norm(gradient)}

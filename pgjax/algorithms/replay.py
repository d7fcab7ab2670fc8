"""An agent that learns from what others did, in; a Learner with a replay buffer out.

One step acts for [T, B] steps, adds them to the buffer, and makes `gradient_steps` steps of the optimiser, each on
`batch_size` rows [N] drawn uniformly, with replacement, from the latest `buffer_size`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from pgjax import rollout
from pgjax.advantages import ADVANTAGES
from pgjax.algorithms import compatibility
from pgjax.config import Config, check_config
from pgjax.dependencies import importing
from pgjax.envs.parameters import with_params
from pgjax.hyperparameters import declare, hyperparameters, name_of
from pgjax.policies.action_values import exploring_actor
from pgjax.training.failures import Unselected
from pgjax.types import (
    Algorithm,
    Array,
    Batch,
    Env,
    EstimatorFn,
    Hypers,
    Learner,
    Policy,
    PyTree,
    RunningAdvantage,
    Trajectory,
)

with importing("flashbax"):
    import flashbax


class Agent(NamedTuple):
    """What learners with replay differ in; their gradient is the Algorithm's estimator."""

    policy: Policy
    init: Callable  # (key, hypers) -> params
    followed: Callable  # (params) -> those whose running mean are the target networks
    evaluate: Callable  # (key, params, targets, rows) -> Evaluation [N]: next_value is the targets'
    explore: Callable  # (environment steps so far, hypers) -> [] share of uniform actions, once warm


class ReplayState(NamedTuple):
    params: PyTree
    targets: PyTree
    optimizer: PyTree
    rollout: PyTree  # RolloutState
    buffer: Unselected  # flashbax's, a pytree of arrays
    env_steps: Array  # [] int32
    gradient_steps: Array  # [] int32
    explore: Array  # [] share of uniform actions of what acts next


def replayed(estimator: EstimatorFn) -> EstimatorFn:
    """The same with the hyperparameters of the learner around it, of which it knows nothing.

    Those are:
      tau: the targets' step, theta' <- tau theta + (1 - tau) theta' (Lillicrap et al. 2016, alg. 1).
      target_period: gradient steps from one such step to the next; with tau = 1, copies (Mnih et al. 2015).
      batch_size, buffer_size: rows of a gradient step; latest environment steps that are kept.
      warmup: environment steps of uniform actions before anything is learned.
      gradient_steps: of each update, in which num_envs x num_steps environment steps were made.
    """

    def replaying(
        key,
        policy,
        params,
        batch,
        *,
        tau: float = 0.005,
        target_period: int = 1,
        batch_size: int = 256,
        buffer_size: int = 100_000,
        warmup: int = 1_000,
        gradient_steps: int = 16,
        **hypers,
    ):
        del tau, target_period, batch_size, buffer_size, warmup, gradient_steps
        return estimator(key, policy, params, batch, **hypers)

    replaying.__name__ = name_of(estimator)
    return declare(replaying, estimator)


def make(env: Env, agent: Agent, algorithm: Algorithm, config: Config) -> Learner:
    """The Learner of an agent. Before `warmup` is over its losses are measured but not descended.

    Raises:
      ValueError: for options that have no meaning here or don't fit together, before anything is traced.
    """
    check(env, algorithm, config)
    options = hyperparameters(algorithm.estimator)
    warmup = options["warmup"]
    buffer = flashbax.make_item_buffer(options["buffer_size"], 1, options["batch_size"], add_batches=True)

    def init(key: Array, hypers: Hypers) -> ReplayState:
        key_params, key_envs = jax.random.split(key)
        env_params = with_params(env, hypers.env)
        params = agent.init(key_params, hypers)
        stream = rollout.start(key_envs, env, agent.policy, config.num_envs, env_params)
        acting = exploring_actor(env, agent.policy, params, 1.0)
        # For shapes and types alone: nothing is drawn from the key.
        trajectory = jax.eval_shape(lambda: rollout.unroll(key, env, *acting, stream, 1, env_params))[1]
        return ReplayState(
            params=params,
            targets=jax.tree.map(jnp.copy, agent.followed(params)),  # a donated array may be given only once
            optimizer=algorithm.optimizer(**hypers.optimizer).init(params),
            rollout=stream,
            buffer=Unselected(buffer.init(jax.tree.map(lambda x: jnp.zeros(x.shape[2:], x.dtype), trajectory))),
            env_steps=jnp.int32(0),
            gradient_steps=jnp.int32(0),
            explore=share(jnp.int32(0), hypers),
        )

    def share(env_steps: Array, hypers: Hypers) -> Array:
        return jnp.where(env_steps < warmup, 1.0, agent.explore(env_steps, hypers)).astype(jnp.float32)

    def behaviour(state: ReplayState) -> tuple[Policy, PyTree]:
        return exploring_actor(env, agent.policy, state.params, state.explore)

    def step(key: Array, state: ReplayState, hypers: Hypers) -> tuple[ReplayState, dict[str, Array]]:
        key_rollout, key_learn = jax.random.split(key)
        acting, params = behaviour(state)
        env_params = with_params(env, hypers.env)
        stream, trajectory = rollout.unroll(
            key_rollout, env, acting, params, state.rollout, config.num_steps, env_params
        )
        return learn(key_learn, state, stream, trajectory, hypers)

    def learn(
        key: Array, state: ReplayState, stream: PyTree, trajectory: Trajectory, hypers: Hypers
    ) -> tuple[ReplayState, dict[str, Array]]:
        key_rows, key_steps = jax.random.split(key)
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), trajectory._replace(memory=()))
        kept = buffer.add(state.buffer.value, flat)
        env_steps = state.env_steps + flat.reward.shape[0]
        learning = env_steps >= warmup
        # All at once: inside the loop the buffer would be one more value to carry.
        keys = jax.random.split(key_rows, options["gradient_steps"])
        with jax.numpy_rank_promotion("allow"):  # flashbax adds [N, 1] and [1]
            rows = jax.vmap(lambda key: buffer.sample(kept, key).experience)(keys)
        drawn = rows, jax.random.split(key_steps, options["gradient_steps"])
        transform = algorithm.optimizer(**hypers.optimizer)

        def descend(carry, inputs):
            params, targets, optimizer, count = carry
            rows, key = inputs
            key_target, key_gradient = jax.random.split(key)
            now = agent.evaluate(key_target, params, targets, rows)
            weight, goal = jax.lax.stop_gradient(algorithm.advantage(rows, now, **hypers.advantage))
            compatibility.check_advantage(algorithm.advantage, weight, goal, rows.mask)
            batch = Batch(rows, weight, goal, now.value)
            gradient, metrics = algorithm.estimator(key_gradient, agent.policy, params, batch, **hypers.estimator)
            updates, optimizer = transform.update(gradient, optimizer, params)
            params, count = optax.apply_updates(params, updates), count + 1
            tau = jnp.where(count % options["target_period"] == 0, hypers.estimator["tau"], 0.0)
            targets = optax.incremental_update(agent.followed(params), targets, tau)
            moved = (params, targets, optimizer, count)
            carry = jax.tree.map(lambda new, old: jnp.where(learning, new, old), moved, carry)
            return carry, {**metrics, "grad_norm": optax.tree.norm(gradient)}

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
            explore=share(env_steps, hypers),
        )
        return following, {
            **rollout.lately(stream, trajectory),
            **jax.tree.map(jnp.mean, metrics),
            "gradient_steps": (count - state.gradient_steps).astype(jnp.float32),
            "epsilon": state.explore,
            "env_steps": jnp.sum(trajectory.mask),
        }

    policy = lambda state: (agent.policy, state.params)  # noqa: E731
    return Learner(init=init, step=step, policy=policy, behaviour=behaviour, learn=learn)


def check(env: Env, algorithm: Algorithm, config: Config) -> None:
    """That nothing is asked for that a learner with replay has not; one ValueError with the fix."""
    check_config(env, config)
    for name in INAPPLICABLE:
        value, default = getattr(config, name), getattr(Config(), name)
        if value != default:
            raise ValueError(f"{name}={value!r} has no meaning with replay; {INAPPLICABLE[name]}")
    named = name_of(algorithm.advantage)
    if isinstance(algorithm.advantage, RunningAdvantage) or named in set(ADVANTAGES) - {"td"}:
        raise ValueError(f"advantage={named!r} needs steps in order, replay has rows; use td")
    options = hyperparameters(algorithm.estimator)
    if missing := [name for name in OPTIONS if name not in options]:
        raise ValueError(
            f"estimator {name_of(algorithm.estimator)!r} has no hyperparameter {missing[0]!r}; use buffered.replayed"
        )
    for name in set(OPTIONS) - {"tau", "warmup"}:
        if options[name] < 1:
            raise ValueError(f"{name} must be 1 or more, got {options[name]}")
    if options["warmup"] < 0:
        raise ValueError(f"warmup must be 0 or more, got {options['warmup']}")
    if options.get("normalize_advantage"):
        raise ValueError("normalize_advantage=True has no meaning with replay: nothing here goes by an advantage")
    rows, size = config.num_envs * config.num_steps, options["buffer_size"]
    if size < max(rows, options["batch_size"]):
        raise ValueError(
            f"buffer_size={size} holds neither num_envs x num_steps = {rows} rows nor a batch; "
            f"use {max(rows, options['batch_size'])} or more"
        )


OPTIONS = ("tau", "target_period", "batch_size", "buffer_size", "warmup", "gradient_steps")


INAPPLICABLE = {
    "num_epochs": "use gradient_steps of the estimator",
    "num_minibatches": "use gradient_steps and batch_size of the estimator",
    "rollout": "use rollout='unroll'",
    "normalize_obs": "use normalize_obs=False",
    "scale_rewards": "use scale_rewards=False",
    "epsilon": "use epsilon_end of dqn, or nothing with sac",
    "lag": "use lag=0",
    "update": "use update='batch' and batch_size of the estimator",
    "temperature": "use temperature=1; that of sac is alpha",
    "critic": "use critic='value': the learner makes its own critics",
    "shared": "use shared=False",
    "kernel": "use kernel='xla'",
    "pretrain": "it learns from replay alone; use pretrain=0",
}

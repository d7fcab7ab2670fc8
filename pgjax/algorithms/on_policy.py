"""The learner of every on-policy method: an environment, a policy and three plugs in, a Learner out."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgjax import rollout
from pgjax.algorithms import compatibility, imitation, reward_scaling, updates
from pgjax.config import Config, check_config
from pgjax.declarations import Role
from pgjax.envs.parameters import with_params
from pgjax.estimators import pieces
from pgjax.hyperparameters import by_role, name_of, value_of
from pgjax.numerics import masked, returns, running_moments
from pgjax.policies import wrappers
from pgjax.types import Algorithm, Array, Batch, Env, Hypers, Learner, Policy, PyTree, RunningAdvantage, Trajectory


class LearnerState(NamedTuple):
    """All that an on-policy learner carries from update to update."""

    params: PyTree
    optimizer: PyTree
    advantage: PyTree  # the memory of a RunningAdvantage, or ()
    rollout: PyTree  # RolloutState, or () where every update starts fresh episodes
    obs_moments: PyTree  # Moments, or ()
    reward_scale: PyTree  # scaling.RewardScale, or ()
    reference: PyTree = ()  # the first parameters, where plugs ask how far the policy went from them
    past: PyTree = ()  # [lag, ...] parameters of the updates before, the oldest first, or ()


class Setup(NamedTuple):
    """What `make_learner` was given, checked, and what follows from it."""

    env: Env
    policy: Policy
    advantage: RunningAdvantage
    config: Config
    steps: int  # of one rollout
    updater: updates.Updater
    first: Callable[[Array, PyTree], PyTree]  # (key, environment parameters) -> params
    roles: dict[Role, str]  # of the advantage's hyperparameters
    samples: int  # neighbouring episodes that begin alike
    anchored: bool  # whether a plug asks how far the policy went from its first parameters
    name: str  # of the advantage, for messages

    @property
    def whole(self) -> bool:
        return self.config.rollout == "episodes"


def make_learner(
    env: Env, policy: Policy, algorithm: Algorithm, config: Config, update: updates.MakeUpdater = updates.descent
) -> Learner:
    """Roll out, weigh, estimate, descend: every on-policy method of the roster.

    One step collects [T, B] under the current policy, or that of `config.lag` updates ago, evaluates it once,
    computes advantages, and makes num_epochs x num_minibatches updates. Minibatches are random rows [N] of a
    stream, and whole columns [T, b] where order matters: with whole episodes, or a policy with memory.

    Args:
      update: (algorithm, config, by_column) -> updates.Updater, what is done with a batch.

    Raises:
      ValueError: for a config that doesn't fit the environment, before anything is traced.
    """
    steps = check_config(env, config)
    by_column = compatibility.check_rollout(env, policy, algorithm, config, steps)
    advantage = algorithm.advantage
    if not isinstance(advantage, RunningAdvantage):
        plain = advantage
        advantage = RunningAdvantage(lambda: (), lambda state, *args, **hypers: (state, plain(*args, **hypers)))
    setup = Setup(
        env=env,
        policy=policy,
        advantage=advantage,
        config=config,
        steps=steps,
        updater=update(algorithm, config, by_column),
        first=imitation.pretrained(env, policy, config.pretrain, config.examples),
        roles=by_role(algorithm.advantage),
        samples=value_of(algorithm.advantage, Role.SAMPLES, 1),
        anchored=any(Role.REFERENCE in by_role(plug) for plug in algorithm[:2]),
        name=name_of(algorithm.advantage),
    )
    return Learner(
        init=functools.partial(_init, setup),
        step=functools.partial(_step, setup),
        policy=lambda state: (_seen_through(setup, state), state.params),
        behaviour=functools.partial(_behaviour, setup),
        learn=functools.partial(_learn, setup),
    )


def _seen_through(setup: Setup, state: LearnerState) -> Policy:
    """The policy, its observations normalised by the moments so far where the config asks for it."""
    if not setup.config.normalize_obs:
        return setup.policy
    return wrappers.with_observation_moments(setup.policy, state.obs_moments)


def _init(setup: Setup, key: Array, hypers: Hypers) -> LearnerState:
    env, config = setup.env, setup.config
    key_params, key_envs = jax.random.split(key)
    env_params = with_params(env, hypers.env)
    params = setup.first(key_params, env_params)
    _, obs = jax.eval_shape(env.reset, key, env_params)
    return LearnerState(
        params=params,
        optimizer=setup.updater.init(params, hypers),
        advantage=setup.advantage.init(),
        reference=jax.tree.map(jnp.copy, params) if setup.anchored else (),  # a donated array may be given only once
        past=jax.tree.map(lambda x: jnp.repeat(x[None], config.lag, axis=0), params) if config.lag else (),
        rollout=() if setup.whole else rollout.start(key_envs, env, setup.policy, config.num_envs, env_params),
        obs_moments=running_moments.empty(obs) if config.normalize_obs else (),
        reward_scale=reward_scaling.start(config.num_envs) if config.scale_rewards else (),
    )


def _behaviour(setup: Setup, state: LearnerState) -> tuple[Policy, PyTree]:
    config, acting = setup.config, _seen_through(setup, state)
    acting = wrappers.exploring(acting, config.epsilon) if config.epsilon else acting
    return acting, jax.tree.map(lambda x: x[0], state.past) if config.lag else state.params


def _step(setup: Setup, key: Array, state: LearnerState, hypers: Hypers) -> tuple[LearnerState, dict[str, Array]]:
    key_rollout, key_update = jax.random.split(key)
    env, env_params = setup.env, with_params(setup.env, hypers.env)
    acting, params = _behaviour(setup, state)
    stream: PyTree = ()
    if setup.whole:
        trajectory, _ = rollout.episodes(
            key_rollout, env, acting, params, setup.config.num_envs, setup.steps, env_params, setup.samples
        )
    else:
        stream, trajectory = rollout.unroll(key_rollout, env, acting, params, state.rollout, setup.steps, env_params)
    return _learn(setup, key_update, state, stream, trajectory, hypers)


def _learn(
    setup: Setup, key: Array, state: LearnerState, stream: PyTree, trajectory: Trajectory, hypers: Hypers
) -> tuple[LearnerState, dict[str, Array]]:
    config, target = setup.config, _seen_through(setup, state)
    metrics = rollout.lately(stream, trajectory)
    raw_obs = trajectory.obs
    reward_scale = state.reward_scale
    if config.scale_rewards:
        discount = hypers.advantage[setup.roles[Role.DISCOUNT]]
        reward_scale, trajectory = reward_scaling.scale(reward_scale, trajectory, discount)

    if setup.anchored:
        trajectory = trajectory._replace(reference=target.evaluate(state.reference, trajectory).log_prob)
        away = jnp.where(trajectory.mask > 0, trajectory.log_prob - trajectory.reference, 0.0)
        metrics["kl_to_reference"] = jnp.mean(jnp.sum(away, axis=0))
    now = pieces.evaluate(target, state.params, trajectory)
    if Role.GAIN_RATE in setup.roles:
        now = pieces.continued(target, state.params, trajectory, now, stream)
    memory, output = setup.advantage.apply(state.advantage, trajectory, now, **hypers.advantage)
    weight, goal, extra = compatibility.checked_advantage(setup.name, output, trajectory.mask)
    then = now if all(isinstance(x, jax.Array) for x in jax.tree.leaves(now)) else ()  # a user's dist may be no pytree
    batch = Batch(trajectory, weight, goal, now.value, then, extra)
    params, optimizer, learned = setup.updater.apply(key, target, state.params, state.optimizer, batch, hypers)

    obs_moments, past = state.obs_moments, state.past
    if config.normalize_obs:
        obs_moments = running_moments.update(obs_moments, raw_obs, trajectory.mask)
    if config.lag:
        past = jax.tree.map(lambda old, new: jnp.concatenate([old[1:], new[None]]), past, state.params)
    following = LearnerState(params, optimizer, memory, stream, obs_moments, reward_scale, state.reference, past)
    of_actions = not isinstance(now.action_value, tuple)
    foretold = returns.taken(now.action_value, trajectory.action) if of_actions else now.value
    explained = _explained_variance(foretold, goal, trajectory.mask)
    entropy = masked.mean(now.entropy, trajectory.mask)
    metrics = {"entropy": entropy, **metrics, **learned, "env_steps": jnp.sum(trajectory.mask)}
    if setup.samples == 1:  # otherwise the other samples are the baseline, and a critic has nothing to explain
        metrics["explained_variance"] = explained
    return following, metrics


def _explained_variance(value: Array, target: Array, mask: Array) -> Array:
    """1 - Var(target - value) / Var(target) over the steps that count: of equal targets 1 or 0, all or nothing."""
    _, all_of_it = masked.standard(target, mask)
    _, left = masked.standard(target - value, mask, jnp.maximum(jnp.abs(target), jnp.abs(value)))
    share = jnp.where(all_of_it == 0, jnp.sign(left), left / jnp.where(all_of_it == 0, 1.0, all_of_it))
    return 1 - share**2

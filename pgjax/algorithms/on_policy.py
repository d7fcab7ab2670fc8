"""An environment, a policy and three plugs in; a Learner(init, step, policy) out."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgjax import rollout
from pgjax.algorithms import compatibility, imitation, reward_scaling, updates
from pgjax.config import Config, check_config
from pgjax.envs.parameters import with_params
from pgjax.envs.spaces import layout
from pgjax.estimators import pieces
from pgjax.hyperparameters import hyperparameters, name_of
from pgjax.numerics import masked, returns, running_moments
from pgjax.policies import traits, wrappers
from pgjax.types import Algorithm, Array, Batch, Env, Hypers, Learner, Policy, PyTree, RunningAdvantage, Trajectory


class LearnerState(NamedTuple):
    params: PyTree
    optimizer: PyTree
    advantage: PyTree  # the memory of a RunningAdvantage, or ()
    rollout: PyTree  # RolloutState, or () where every update starts fresh episodes
    obs_moments: PyTree  # Moments, or ()
    reward_scale: PyTree  # scaling.RewardScale, or ()
    reference: PyTree = ()  # the first parameters, where plugs ask how far the policy went from them
    past: PyTree = ()  # [lag, ...] parameters of the updates before, the oldest first, or ()


def make(env: Env, policy: Policy, algorithm: Algorithm, config: Config, update: Callable = updates.descent) -> Learner:
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
    whole = config.rollout == "episodes"
    by_column = whole or traits.has_memory(policy)
    rows = config.num_envs if by_column else config.num_envs * steps
    if rows % config.num_minibatches:
        unit = "environments" if by_column else "steps"
        raise ValueError(
            f"num_minibatches={config.num_minibatches} doesn't divide the batch of {rows} {unit}; "
            f"choose a divisor of {rows}"
        )
    advantage = algorithm.advantage
    if not isinstance(advantage, RunningAdvantage):
        plain = advantage
        advantage = RunningAdvantage(lambda: (), lambda state, *args, **hypers: (state, plain(*args, **hypers)))
    compatibility.check_options(
        hyperparameters(algorithm.advantage), hyperparameters(algorithm.estimator), config, steps
    )
    if config.update == "step" and traits.has_memory(policy):
        raise ValueError("update='step' needs a policy without a memory; use update='batch'")
    if config.normalize_obs and layout(env.observation_space) in ("", "L"):
        raise ValueError(f"normalize_obs needs a Box of observations, got {env.observation_space!r}")
    if config.scale_rewards and "discount" not in hyperparameters(algorithm.advantage):
        raise ValueError(f"scale_rewards needs an advantage with a discount; {name_of(algorithm.advantage)} has none")

    samples = hyperparameters(algorithm.advantage).get("samples", 1)
    if samples > 1 and not whole:
        raise ValueError(f"samples={samples} begin alike, in whole episodes; use rollout='episodes'")
    if samples > 1 and env.host:
        raise ValueError(f"samples={samples}: worlds stepped on the host can't begin alike; choose another algorithm")
    if not isinstance(samples, int) or samples < 1 or config.num_envs % samples:
        raise ValueError(f"samples must be a whole number that divides num_envs={config.num_envs}, got {samples!r}")
    if policy.whole_episodes and not whole:
        raise ValueError("the transformer learns from whole episodes; use rollout='episodes' with num_steps=0")
    continuing = "gain_rate" in hyperparameters(algorithm.advantage)
    anchored = "reference_penalty" in hyperparameters(algorithm.advantage)
    anchored = anchored or "reference_coef" in hyperparameters(algorithm.estimator)
    first = imitation.pretrained(env, policy, config.pretrain, config.examples)
    updater = update(algorithm, config, by_column)

    def seen_through(state: LearnerState) -> Policy:
        if not config.normalize_obs:
            return policy
        return wrappers.with_observation_moments(policy, state.obs_moments)

    def init(key: Array, hypers: Hypers) -> LearnerState:
        key_params, key_envs = jax.random.split(key)
        env_params = with_params(env, hypers.env)
        params = first(key_params, env_params)
        _, obs = jax.eval_shape(env.reset, key, env_params)
        return LearnerState(
            params=params,
            optimizer=updater.init(params, hypers),
            advantage=advantage.init(),
            reference=jax.tree.map(jnp.copy, params) if anchored else (),  # a donated array may be given only once
            past=jax.tree.map(lambda x: jnp.repeat(x[None], config.lag, axis=0), params) if config.lag else (),
            rollout=() if whole else rollout.start(key_envs, env, policy, config.num_envs, env_params),
            obs_moments=running_moments.empty(obs) if config.normalize_obs else (),
            reward_scale=reward_scaling.start(config.num_envs) if config.scale_rewards else (),
        )

    def behaviour(state: LearnerState) -> tuple[Policy, PyTree]:
        acting = seen_through(state)
        acting = wrappers.exploring(acting, config.epsilon) if config.epsilon else acting
        return acting, jax.tree.map(lambda x: x[0], state.past) if config.lag else state.params

    def step(key: Array, state: LearnerState, hypers: Hypers) -> tuple[LearnerState, dict[str, Array]]:
        key_rollout, key_update = jax.random.split(key)
        env_params = with_params(env, hypers.env)
        acting, params = behaviour(state)
        if whole:
            stream = ()
            trajectory, _ = rollout.episodes(
                key_rollout, env, acting, params, config.num_envs, steps, env_params, samples
            )
        else:
            stream, trajectory = rollout.unroll(key_rollout, env, acting, params, state.rollout, steps, env_params)
        return learn(key_update, state, stream, trajectory, hypers)

    def learn(
        key: Array, state: LearnerState, stream: PyTree, trajectory: Trajectory, hypers: Hypers
    ) -> tuple[LearnerState, dict[str, Array]]:
        target = seen_through(state)
        metrics = rollout.lately(stream, trajectory)
        raw_obs = trajectory.obs
        reward_scale = state.reward_scale
        if config.scale_rewards:
            reward_scale, trajectory = reward_scaling.scale(reward_scale, trajectory, hypers.advantage["discount"])

        if anchored:
            trajectory = trajectory._replace(reference=target.evaluate(state.reference, trajectory).log_prob)
            away = jnp.where(trajectory.mask > 0, trajectory.log_prob - trajectory.reference, 0.0)
            metrics["kl_to_reference"] = jnp.mean(jnp.sum(away, axis=0))
        now = pieces.evaluate(target, state.params, trajectory)
        if continuing:
            now = pieces.continued(target, state.params, trajectory, now, stream)
        memory, (weight, goal) = advantage.apply(state.advantage, trajectory, now, **hypers.advantage)
        compatibility.check_advantage(algorithm.advantage, weight, goal, trajectory.mask)
        batch = Batch(trajectory, weight, goal, now.value)
        params, optimizer, learned = updater.apply(key, target, state.params, state.optimizer, batch, hypers)

        obs_moments = state.obs_moments
        if config.normalize_obs:
            obs_moments = running_moments.update(obs_moments, raw_obs, trajectory.mask)
        past = state.past
        if config.lag:
            past = jax.tree.map(lambda old, new: jnp.concatenate([old[1:], new[None]]), past, state.params)
        following = LearnerState(params, optimizer, memory, stream, obs_moments, reward_scale, state.reference, past)
        of_actions = not isinstance(now.action_value, tuple)
        foretold = returns.taken(now.action_value, trajectory.action) if of_actions else now.value
        explained = _explained_variance(foretold, goal, trajectory.mask)
        entropy = masked.mean(now.entropy, trajectory.mask)
        metrics = {
            "entropy": entropy,
            **metrics,
            **learned,
            "env_steps": jnp.sum(trajectory.mask),
        }
        if samples == 1:  # the others are the baseline, and a critic has nothing to explain
            metrics["explained_variance"] = explained
        return following, metrics

    policy_of = lambda state: (seen_through(state), state.params)  # noqa: E731
    return Learner(init=init, step=step, policy=policy_of, behaviour=behaviour, learn=learn)


def _explained_variance(value: Array, target: Array, mask: Array) -> Array:
    """1 - Var(target - value) / Var(target) over the steps that count: of equal targets 1 or 0, all or nothing."""
    _, all_of_it = masked.standard(target, mask)
    _, left = masked.standard(target - value, mask, jnp.maximum(jnp.abs(target), jnp.abs(value)))
    share = jnp.where(all_of_it == 0, jnp.sign(left), left / jnp.where(all_of_it == 0, 1.0, all_of_it))
    return 1 - share**2

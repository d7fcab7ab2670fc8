"""The learner of every on-policy method: an environment, a policy and plugs in, a Learner out."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgjax import rollout
from pgjax.algorithms import compatibility, imitation, playing, reward_scaling, updates
from pgjax.config import Config, check_config
from pgjax.declarations import Role, Trait, traits_of
from pgjax.envs import observations
from pgjax.envs.parameters import with_params
from pgjax.estimators import noise, pieces
from pgjax.hyperparameters import by_role, name_of, plugs, value_of
from pgjax.numerics import keys, masked, returns, running_moments
from pgjax.policies import wrappers
from pgjax.running import check_state, running, settled, shown
from pgjax.types import Algorithm, Array, Batch, Env, Evaluation, Hypers, Learner, Policy, PyTree, Running, Trajectory


class LearnerState(NamedTuple):
    """All that an on-policy learner carries from update to update."""

    params: PyTree
    updater: PyTree  # of the updater: the optimizer's and the estimator's
    advantage: PyTree  # the state of an advantage that remembers, or ()
    rollout: PyTree  # RolloutState, or () where every update starts fresh episodes
    obs_moments: PyTree  # Moments, or ()
    reward_scale: PyTree  # scaling.RewardScale, or ()
    reference: PyTree = ()  # the first parameters, where plugs ask how far the policy went from them
    past: PyTree = ()  # [lag, ...] parameters of the updates before, the oldest first, or ()
    variables: PyTree = ()  # of a policy that has some


class Setup(NamedTuple):
    """What `make_learner` was given, checked, and what follows from it."""

    env: Env
    policy: Policy
    algorithm: Algorithm
    config: Config
    steps: int  # of one rollout
    by_column: bool  # whether minibatches are whole columns
    first: Callable[[Array, PyTree], PyTree]  # (key, environment parameters) -> params
    roles: dict[Role, str]  # of the advantage's hyperparameters
    samples: int  # neighbouring episodes that begin alike
    anchored: bool  # whether a plug asks how far the policy went from its first parameters
    plays: bool  # whether the advantage plays episodes of its own

    @property
    def whole(self) -> bool:
        return self.config.rollout == "episodes"


def make_learner(env: Env, policy: Policy, algorithm: Algorithm, config: Config) -> Learner:
    """Roll out, weigh, estimate, descend: every on-policy method of the roster.

    One step collects [T, B] under the current policy, or that of `config.lag` updates ago, evaluates it once,
    computes advantages, and does with the batch what the algorithm's updater says: `updates.descent` makes
    num_epochs x num_minibatches gradient steps. Minibatches are random rows [N] of a stream, and whole columns [T, b]
    where order matters: with whole episodes, a policy with memory, or a plug declared `in_order`.

    Raises:
      ValueError: for a config that doesn't fit the environment, before anything is traced.
    """
    steps = check_config(env, config)
    by_column = compatibility.check_rollout(env, policy, algorithm, config, steps)
    updates.made(algorithm, config, by_column)  # which may refuse them
    setup = Setup(
        env=env,
        policy=policy,
        algorithm=algorithm,
        config=config,
        steps=steps,
        by_column=by_column,
        first=imitation.pretrained(env, policy, config.pretrain, config.examples),
        roles=by_role(algorithm.advantage),
        samples=value_of(algorithm.advantage, Role.SAMPLES, 1),
        anchored=any(Role.REFERENCE in by_role(plug) for plug in plugs(algorithm).values()),
        plays=Trait.PLAYS in traits_of(algorithm.advantage),
    )
    return Learner(
        init=functools.partial(_init, setup),
        policy=functools.partial(_policy, setup),
        behaviour=functools.partial(_behaviour, setup),
        collect=functools.partial(_collect, setup),
        learn=functools.partial(_learn, setup),
    )


def _policy(setup: Setup, state: LearnerState) -> tuple[Policy, PyTree]:
    final = updates.made(setup.algorithm, setup.config, setup.by_column).final
    return _seen_through(setup, state, learns=False), final(state.params, state.updater)


def _seen_through(setup: Setup, state: LearnerState, learns: bool = True) -> Policy:
    """The policy with its variables, its observations normalised by the moments so far where the config asks for it."""
    policy = setup.policy
    if policy.variables:
        policy = policy.variables.bind(state.variables, learns)._replace(variables=policy.variables)
    if not setup.config.normalize_obs:
        return policy
    return wrappers.with_observation_moments(policy, state.obs_moments)


def _init(setup: Setup, key: Array, hypers: Hypers) -> LearnerState:
    env, config, algorithm = setup.env, setup.config, setup.algorithm
    key_params, key_envs = jax.random.split(key)
    key_advantage, key_updater, key_variables = jax.random.split(jax.random.fold_in(key, keys.START), 3)
    env_params = with_params(env, hypers.env)
    params = setup.first(key_params, env_params)
    _, obs = jax.eval_shape(env.reset, key, env_params)
    obs = observations.measured(env.observation_space, obs)
    state = LearnerState(
        params=params,
        updater=(),
        advantage=(),
        reference=jax.tree.map(jnp.copy, params) if setup.anchored else (),  # a donated array may be given only once
        past=jax.tree.map(lambda x: jnp.repeat(x[None], config.lag, axis=0), params) if config.lag else (),
        rollout=() if setup.whole else rollout.start(key_envs, env, setup.policy, config.num_envs, env_params),
        obs_moments=running_moments.empty(obs) if config.normalize_obs else (),
        reward_scale=reward_scaling.start(config.num_envs) if config.scale_rewards else (),
        variables=setup.policy.variables.init(key_variables) if setup.policy.variables else (),
    )
    updater = updates.made(algorithm, config, setup.by_column, hypers)
    asked = isinstance(algorithm.advantage, Running), updater.shapes
    batch = _shapes(setup, state, hypers) if any(asked) else None
    policy = _seen_through(setup, state)
    return state._replace(
        advantage=running(algorithm.advantage).init(key_advantage, policy, params, batch),
        updater=updater.init(key_updater, policy, params, batch, hypers),
    )


def _shapes(setup: Setup, state: LearnerState, hypers: Hypers) -> Batch:
    """A batch of zeros in the shapes of those to come."""

    def collect(key: Array, state: LearnerState, hypers: Hypers) -> Batch:
        stream, trajectory = _collect(setup, key, *_behaviour(setup, state), state, hypers)
        target, first = _seen_through(setup, state), trajectory._replace(state=())
        first = first._replace(reference=first.log_prob if setup.anchored else ())
        now = pieces.evaluate(target, state.params, first)
        plain = Batch(first, now.value, now.value, now.value, _kept(now))
        started = running(setup.algorithm.advantage).init(key, target, state.params, plain)
        return _weighed(setup, key, state._replace(advantage=started), stream, trajectory, hypers)[1]

    shapes = jax.eval_shape(collect, jax.random.key(0), state, hypers)
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def _kept(now: Evaluation) -> Evaluation | tuple[()]:
    """The evaluation, or () where the user's distribution is no pytree of arrays."""
    return now if all(isinstance(x, jax.Array) for x in jax.tree.leaves(now)) else ()


def _behaviour(setup: Setup, state: LearnerState) -> tuple[Policy, PyTree]:
    config, acting = setup.config, _seen_through(setup, state)
    if config.epsilon:
        legal = observations.legal(setup.env.observation_space, setup.env.action_space)
        acting = wrappers.exploring(acting, config.epsilon, legal)
    return acting, jax.tree.map(lambda x: x[0], state.past) if config.lag else state.params


def _collect(
    setup: Setup, key: Array, acting: Policy, params: PyTree, state: LearnerState, hypers: Hypers
) -> tuple[PyTree, Trajectory]:
    env, env_params, plays = setup.env, with_params(setup.env, hypers.env), setup.plays
    if setup.whole:
        count = setup.config.num_envs
        rows, _ = rollout.episodes(key, env, acting, params, count, setup.steps, env_params, setup.samples, plays)
        return (), rows
    return rollout.unroll(key, env, acting, params, state.rollout, setup.steps, env_params, plays)


def _learn(
    setup: Setup, key: Array, state: LearnerState, stream: PyTree, trajectory: Trajectory, hypers: Hypers
) -> tuple[LearnerState, dict[str, Array]]:
    config, policy = setup.config, _seen_through(setup, state)
    metrics = rollout.lately(stream, trajectory)
    obs, obs_moments, reward_scale = trajectory.obs, state.obs_moments, state.reward_scale
    if config.scale_rewards:
        discount = hypers.advantage[setup.roles[Role.DISCOUNT]]
        reward_scale, trajectory = reward_scaling.scale(reward_scale, trajectory, discount)
    advantage, batch, now, weighed = _weighed(setup, key, state, stream, trajectory, hypers)
    updater = updates.made(setup.algorithm, config, setup.by_column, hypers)
    params, kept, learned = updater.apply(key, policy, state.params, state.updater, batch, hypers)

    if config.normalize_obs:
        obs = observations.measured(setup.env.observation_space, obs)
        obs_moments = running_moments.update(obs_moments, obs, trajectory.mask)
    past, variables = state.past, state.variables
    if config.lag:
        past = jax.tree.map(lambda old, new: jnp.concatenate([old[1:], new[None]]), past, state.params)
    if policy.variables:
        variables = policy.variables.after(jax.random.fold_in(key, keys.VARIABLES), params, variables, batch.trajectory)
    following = state._replace(
        params=params,
        updater=kept,
        advantage=settled(running(setup.algorithm.advantage), advantage, learned, **hypers.advantage),
        rollout=stream,
        obs_moments=obs_moments,
        reward_scale=reward_scale,
        past=past,
        variables=variables,
    )
    of_actions = not isinstance(now.action_value, tuple)
    foretold = returns.taken(now.action_value, trajectory.action) if of_actions else now.value
    explained = _explained_variance(foretold, batch.target, trajectory.mask)
    entropy = masked.mean(now.entropy, trajectory.mask)
    weighed |= shown(running(setup.algorithm.advantage), following.advantage)
    learned |= noise.noise_ratios(learned)
    metrics = {"entropy": entropy, **metrics, **weighed, **learned, "env_steps": jnp.sum(trajectory.mask)}
    if setup.samples == 1:  # otherwise the other samples are the baseline, and a critic has nothing to explain
        metrics["explained_variance"] = explained
    return following, metrics


def _weighed(
    setup: Setup, key: Array, state: LearnerState, stream: PyTree, trajectory: Trajectory, hypers: Hypers
) -> tuple[PyTree, Batch, Evaluation, dict[str, Array]]:
    """The advantage's next state, the batch, what the policy says of it, and metrics."""
    policy, metrics, before = _seen_through(setup, state), {}, trajectory.state
    trajectory = trajectory._replace(state=())
    if setup.anchored:
        trajectory = trajectory._replace(reference=policy.evaluate(state.reference, trajectory).log_prob)
        away = jnp.where(trajectory.mask > 0, trajectory.log_prob - trajectory.reference, 0.0)
        metrics["kl_to_reference"] = jnp.mean(jnp.sum(away, axis=0))
    now = pieces.evaluate(policy, state.params, trajectory)
    if Role.GAIN_RATE in setup.roles:
        now = pieces.continued(policy, state.params, trajectory, now, stream)
    play: tuple[Any, ...] = ()
    if setup.plays:
        world = (_limited(setup), policy, state.params, with_params(setup.env, hypers.env))
        play = (functools.partial(playing.play_on, jax.random.fold_in(key, keys.PLAY), *world),)
    advantage, seen = running(setup.algorithm.advantage), trajectory._replace(state=before)
    memory, output = advantage.apply(state.advantage, *play, seen, now, **hypers.advantage)
    name = name_of(setup.algorithm.advantage)
    check_state(name, state.advantage, memory)
    weight, target, extra = compatibility.checked_advantage(name, output, trajectory.mask)
    return memory, Batch(trajectory, weight, target, now.value, _kept(now), extra), now, metrics


def _limited(setup: Setup) -> Env:
    """The environment, its time limit that of a rollout of whole episodes."""
    steps = min(setup.steps, setup.env.max_steps) if setup.whole else setup.env.max_steps
    return setup.env._replace(max_steps=steps)


def _explained_variance(value: Array, target: Array, mask: Array) -> Array:
    """1 - Var(target - value) / Var(target) over the steps that count: of equal targets 1 or 0, all or nothing."""
    _, all_of_it = masked.standard(target, mask)
    _, left = masked.standard(target - value, mask, jnp.maximum(jnp.abs(target), jnp.abs(value)))
    share = jnp.where(all_of_it == 0, jnp.sign(left), left / jnp.where(all_of_it == 0, 1.0, all_of_it))
    return 1 - share**2

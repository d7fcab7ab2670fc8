"""The values that flow through the pipeline, and one type for each plug.

Axes, the same in the whole package: `T` time, `B` environments, `N` minibatch rows, `A` actions,
`S` seeds, `H` settings, `L` lanes (= H x S). Arrays are time-major, `[T, B, ...]`.

What a plug takes and returns; its keyword-only arguments are its hyperparameters, each with a default:

    loss(now, batch, *, ...) -> (one loss per step, dict of metrics)
    advantage(trajectory, now, *, ...) -> (advantage, target), or (advantage, target, what `batch.extra` is)
    estimator(key, policy, params, batch, *, ...) -> (gradient, dict of scalar metrics)
    optimizer(*, ...) -> optax.GradientTransformation
"""

from collections.abc import Callable
from typing import Any, Concatenate, NamedTuple

import jax

Array = jax.Array
PyTree = Any


class Step(NamedTuple):
    """What one environment step reveals.

    Attributes:
      obs: after the action, before any reset.
      reward: [], of the step.
      terminated: [] bool: the episode ended; nothing follows.
      truncated: [] bool: time ran out; the episode would have gone on.
    """

    obs: PyTree
    reward: Array
    terminated: Array
    truncated: Array


class Env(NamedTuple):
    """One environment as pure functions; the caller vmaps. It never resets itself.

    Attributes:
      params: numbers that a sweep may replace by name (gravity, an MDP's tables).
      reset: (key, params) -> (state, obs).
      step: (key, params, state, action) -> (state, Step); an action is an array, or a tree of them.
      observation_space, action_space: gymnax spaces; that of actions may be a Dict, a Tuple or one of your own.
      max_steps: the time limit of one episode, a truncation, whether `step` keeps to it or not.
      host: N -> `host_loop.Simulators`; reset and step then only show shapes.
      expert: (params, state) -> action, for learning by supervision.
      held_out: params -> those of problems kept from training.
    """

    params: PyTree
    reset: Callable[[Array, PyTree], tuple[PyTree, PyTree]]
    step: Callable[[Array, PyTree, PyTree, Any], tuple[PyTree, Step]]
    observation_space: Any
    action_space: Any
    max_steps: int
    host: Callable[[int], Any] | None = None
    expert: Callable[[PyTree, PyTree], PyTree] | None = None
    held_out: Callable[[PyTree], PyTree] | None = None


class Policy(NamedTuple):
    """An actor-critic as pure functions, and the traits that it declares.

    A wrapper is `policy._replace(act=..., evaluate=...)`, which keeps the needs of the policy inside: `whole_episodes`.
    `stepwise` is a licence, so it holds for one `evaluate` only; a wrapper with another one declares it anew.

    Attributes:
      init: key -> params.
      memory: batch size -> memory [B, ...], () for a memoryless policy.
      act: (params, memory, obs [B, ...]) -> (distribution [B], memory).
      evaluate: (params, trajectory) -> Evaluation.
      stepwise: `evaluate` itself, see by_observation.
      whole_episodes: whether `evaluate` needs whole episodes, each from its first step on. `act` goes on after an
        episode's end, at the last observation, with a memory that has to stay finite and that nothing reads.
      parts: further functions for the losses of its own learner, such as twin critics.
      variables: what it holds besides its parameters.
    """

    init: Callable[[Array], PyTree]
    memory: Callable[[int], PyTree]
    act: Callable[[PyTree, PyTree, PyTree], tuple[Any, PyTree]]
    evaluate: Callable[[PyTree, "Trajectory"], "Evaluation"]
    stepwise: Callable[[PyTree, "Trajectory"], "Evaluation"] | None = None
    whole_episodes: bool = False
    parts: Any = ()
    variables: "Variables | None" = None

    @property
    def by_observation(self) -> bool:
        """Whether `evaluate` is declared to see each step alone, its next_value being its value at next_obs."""
        return self.stepwise is self.evaluate


class Variables(NamedTuple):
    """What a policy holds besides its parameters and no gradient trains: a batch's statistics, noise of its own.

    The learner keeps them beside the parameters. They stay as they are from the first step of a rollout to the last
    gradient step on it, so that the policy that is evaluated is the one that acted.

    Attributes:
      init: key -> variables.
      bind: (variables, whether it learns: False after training) -> the policy.
      after: (key, params, variables, trajectory) -> variables, after each update.
      made: (bind, act, evaluate) of the policy as it was made, so that a wrapper which leaves `bind` as it was is
        refused; () looks for none.
    """

    init: Callable[[Array], PyTree]
    bind: Callable[[PyTree, bool], Policy]
    after: Callable[[Array, PyTree, PyTree, "Trajectory"], PyTree]
    made: tuple[Any, ...] = ()


class Trajectory(NamedTuple):
    """Experience: [T, B, ...], or [N, ...] for rows drawn from it without regard to order.

    Attributes:
      obs: before the action.
      action: an array, or a tree of them.
      log_prob: of the action under the policy that took it.
      reward: of the step.
      terminated, truncated: bool; never both.
      next_obs: before any reset: what the action led to.
      mask: 1. where the step counts, 0. after an episode's end.
      time: int: steps since the episode began.
      memory: [B, ...], the policy's memory at the first step.
      reference: log_prob of the action under the reference policy, where the learner keeps one.
      state: (the environment's state, the policy's memory) before the action, where an advantage plays on.
    """

    obs: PyTree
    action: PyTree
    log_prob: Array
    reward: Array
    terminated: Array
    truncated: Array
    next_obs: PyTree
    mask: Array
    time: Array
    memory: PyTree
    reference: PyTree = ()
    state: PyTree = ()


class Evaluation(NamedTuple):
    """What a policy says of a trajectory; differentiable in its parameters. [T, B] or [N].

    Attributes:
      dist: the distribution of actions, whose fields all have these axes first.
      log_prob, entropy: of the action, and of the distribution.
      value: of obs.
      next_value: of next_obs; whether it may be used is decided in `time_limits.discounts`.
      action_value: [T, B, A] or [N, A] of a critic of action values, else ().
      extra: what the network returns besides, each leaf [T, B, ...] or [N, ...]; else ().
      next_extra: the same of next_obs.
    """

    dist: Any
    log_prob: Array
    entropy: Array
    value: Array
    next_value: Array
    action_value: PyTree = ()
    extra: PyTree = ()
    next_extra: PyTree = ()


class Batch(NamedTuple):
    """What an estimator works on; no gradient flows through it. [T, B] or [N].

    Attributes:
      trajectory: the steps.
      advantage, target: of each step, as the AdvantageFn returned them.
      value: the critic's value when the batch was collected.
      then: the Evaluation by the learning policy when the batch was collected; else ().
      extra: what the advantage returned besides, each leaf [T, B, ...] or [N, ...]; else ().
    """

    trajectory: Trajectory
    advantage: Array
    target: Array
    value: Array
    then: PyTree = ()
    extra: PyTree = ()


class Hypers(NamedTuple):
    """All that vmap may sweep: a dict of scalars (or of [L] arrays) for each part.

    Attributes:
      env: parameters of the environment.
      advantage, estimator, optimizer, updater: hyperparameters of the plug.
    """

    env: dict[str, Array]
    advantage: dict[str, Array]
    estimator: dict[str, Array]
    optimizer: dict[str, Array]
    updater: dict[str, Array] = {}


# The keyword-only arguments of every plug are its hyperparameters: see `pgjax.hyperparameters`.

# (trajectory, now, **hypers) -> the advantage of each step and the target of the critic, each [T, B]; and, where a loss
# wants more, a tree of arrays [T, B, ...], which is `batch.extra`.
AdvantageFn = Callable[Concatenate[Trajectory, Evaluation, ...], tuple[Array, Array] | tuple[Array, Array, PyTree]]

# (now, batch, **hypers) -> one loss per step, [T, B] or [N], never a mean; and metrics, per step or scalar.
LossFn = Callable[Concatenate[Evaluation, Batch, ...], tuple[Array, dict[str, Array]]]

# (key, policy, params, batch, **hypers) -> a gradient of the loss with the tree of `params`, and scalar metrics.
EstimatorFn = Callable[Concatenate[Array, Policy, PyTree, Batch, ...], tuple[PyTree, dict[str, Array]]]


class Running(NamedTuple):
    """A plug that remembers: an advantage, a loss or an estimator with a state of its own, any pytree of arrays.

    For running moments, averaged parameters, dual variables, networks that no policy holds. The learner keeps the state
    beside the parameters, so it is checkpointed, resumed and swept with them. A state keeps its shapes and types.

    Attributes:
      init: (key, policy, params, batch) -> state; the batch is zeros in the shapes of those to come, [T, B, ...].
      apply: (state, what the plug takes, **hypers) -> (state, what the plug returns); for an estimator or a loss once
        for each gradient step.
      after: (state, mean metrics of the update's last epoch, **hypers) -> state, once after each update, with all the
        hyperparameters of `apply`; None does nothing.
      metrics: state -> metrics by name, scalars, of the state after each update; None shows nothing.
    """

    init: Callable[..., PyTree]
    apply: Callable[..., tuple[PyTree, Any]]
    after: Callable[..., PyTree] | None = None
    metrics: Callable[[PyTree], dict[str, Array]] | None = None


class Algorithm(NamedTuple):
    """The plugs.

    Attributes:
      advantage: an AdvantageFn, or one that remembers.
      estimator: an EstimatorFn, or one that remembers.
      optimizer: (**hypers) -> optax.GradientTransformation.
      updater: (algorithm, config, by_column, **hypers) -> updates.Updater; see there.
    """

    advantage: AdvantageFn | Running
    estimator: EstimatorFn | Running
    optimizer: Callable[..., Any]
    updater: Callable[..., Any] | None = None


class Learner(NamedTuple):
    """Anything that trains: what `training` and `runs` run.

    One update is `behaviour`, `collect` and `learn`, one after the other; `_replace` any of them to change it alone.
    A learner of another kind gives `update` instead, the whole of it, and works with JAX environments only: where an
    environment is stepped in Python, the host takes the place of `collect`. A learner keeps its stream in
    `state.rollout`, () where every update begins whole episodes.

    Attributes:
      init: (key, hypers) -> state.
      policy: state -> (policy, params) to evaluate, act with and save.
      behaviour: state -> the ones that act next.
      collect: (key, policy, params, state, hypers) -> (RolloutState or (), trajectory) under the policy that acts.
      learn: (key, state, RolloutState or (), trajectory, hypers) -> (state, metrics); best with episode_return and
        env_steps.
      update: (key, state, hypers) -> (state, metrics), in place of the three.
    """

    init: Callable[[Array, Hypers], PyTree]
    policy: Callable[[PyTree], tuple[Policy, PyTree]]
    behaviour: Callable[[PyTree], tuple[Policy, PyTree]] | None = None
    collect: Callable[[Array, Policy, PyTree, PyTree, Hypers], tuple[PyTree, Trajectory]] | None = None
    learn: Callable[[Array, PyTree, PyTree, Trajectory, Hypers], tuple[PyTree, dict[str, Array]]] | None = None
    update: Callable[[Array, PyTree, Hypers], tuple[PyTree, dict[str, Array]]] | None = None

    def step(self, key: Array, state: PyTree, hypers: Hypers) -> tuple[PyTree, dict[str, Array]]:
        """One update: (state, metrics)."""
        if self.update is not None:
            return self.update(key, state, hypers)
        if self.behaviour is None or self.collect is None or self.learn is None:
            raise ValueError("a Learner needs behaviour, collect and learn, or else update")
        key_rollout, key_update = jax.random.split(key)
        stream, trajectory = self.collect(key_rollout, *self.behaviour(state), state, hypers)
        return self.learn(key_update, state, stream, trajectory, hypers)

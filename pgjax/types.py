"""The values that flow through the pipeline, and one type for each plug.

Axes, the same in the whole package: `T` time, `B` environments, `N` minibatch rows, `A` actions,
`S` seeds, `H` settings, `L` lanes (= H x S). Arrays are time-major, `[T, B, ...]`.
"""

from collections.abc import Callable
from typing import Any, Concatenate, NamedTuple

import jax

Array = jax.Array
PyTree = Any


class Step(NamedTuple):
    """What one environment step reveals."""

    obs: PyTree  # after the action, before any reset
    reward: Array  # []
    terminated: Array  # [] bool: the episode ended; nothing follows
    truncated: Array  # [] bool: time ran out; the episode would have gone on


class Env(NamedTuple):
    """One environment as pure functions; the caller vmaps. It never resets itself."""

    params: PyTree  # numbers that a sweep may replace by name (gravity, an MDP's tables)
    reset: Callable[[Array, PyTree], tuple[PyTree, PyTree]]  # (key, params) -> (state, obs)
    step: Callable[[Array, PyTree, PyTree, Array], tuple[PyTree, Step]]  # (key, params, state, action)
    observation_space: Any  # a gymnax space
    action_space: Any  # a gymnax space
    max_steps: int  # the time limit of one episode, a truncation, whether `step` keeps to it or not
    host: Callable[[int], Any] | None = None  # N -> `host_loop.Simulators`; reset and step then only show shapes
    expert: Callable[[PyTree, PyTree], Array] | None = None  # (params, state) -> action, for learning by supervision
    held_out: Callable[[PyTree], PyTree] | None = None  # params -> those of problems kept from training


class Policy(NamedTuple):
    """An actor-critic as pure functions, and the traits that it declares.

    A wrapper is `policy._replace(act=..., evaluate=...)`, which keeps the needs of the policy inside: `whole_episodes`.
    `stepwise` is a licence, so it holds for one `evaluate` only; a wrapper with another one declares it anew.
    """

    init: Callable[[Array], PyTree]  # key -> params
    memory: Callable[[int], PyTree]  # batch size -> memory [B, ...], () for a memoryless policy
    act: Callable[[PyTree, PyTree, PyTree], tuple[Any, PyTree]]  # params, memory, obs [B, ...] -> dist [B], memory
    evaluate: Callable[[PyTree, "Trajectory"], "Evaluation"]  # params, trajectory -> Evaluation
    stepwise: Callable[[PyTree, "Trajectory"], "Evaluation"] | None = None  # `evaluate` itself, see by_observation
    whole_episodes: bool = False  # evaluate needs whole episodes, each from its first step on
    parts: Any = ()  # further functions for the losses of its own learner, such as twin critics
    variables: "Variables | None" = None  # what it holds besides its parameters

    @property
    def by_observation(self) -> bool:
        """Whether `evaluate` is declared to see each step alone, its next_value being its value at next_obs."""
        return self.stepwise is self.evaluate


class Variables(NamedTuple):
    """What a policy holds besides its parameters and no gradient trains: a batch's statistics, noise of its own.

    The learner keeps them beside the parameters. They stay as they are from the first step of a rollout to the last
    gradient step on it, so that the policy that is evaluated is the one that acted.
    """

    init: Callable[[Array], PyTree]  # key -> variables
    bind: Callable[[PyTree, bool], Policy]  # (variables, whether it learns: False after training) -> the policy
    # (key, params, variables, trajectory) -> variables, after each update
    after: Callable[[Array, PyTree, PyTree, "Trajectory"], PyTree]


class Trajectory(NamedTuple):
    """Experience: [T, B, ...], or [N, ...] for rows drawn from it without regard to order."""

    obs: PyTree
    action: Array
    log_prob: Array  # of the action under the policy that took it
    reward: Array
    terminated: Array  # bool
    truncated: Array  # bool; never where terminated
    next_obs: PyTree  # before any reset: what the action led to
    mask: Array  # 1. where the step counts, 0. after an episode's end
    time: Array  # int: steps since the episode began
    memory: PyTree  # [B, ...] the policy's memory at the first step
    reference: PyTree = ()  # log_prob of the action under the reference policy, where the learner keeps one
    state: PyTree = ()  # (the environment's state, the policy's memory) before the action, where an advantage plays on


class Evaluation(NamedTuple):
    """What a policy says of a trajectory; differentiable in its parameters. [T, B] or [N]."""

    dist: Any
    log_prob: Array
    entropy: Array
    value: Array
    next_value: Array  # of next_obs; whether it may be used is decided in `time_limits.discounts`
    action_value: PyTree = ()  # [T, B, A] or [N, A] of a critic of action values, else ()
    extra: PyTree = ()  # what the network returns besides, each leaf [T, B, ...] or [N, ...]; else ()
    next_extra: PyTree = ()  # the same of next_obs


class Batch(NamedTuple):
    """What an estimator works on; no gradient flows through it. [T, B] or [N]."""

    trajectory: Trajectory
    advantage: Array
    target: Array
    value: Array  # the critic's value when the batch was collected
    then: PyTree = ()  # the Evaluation by the learning policy when the batch was collected; else ()
    extra: PyTree = ()  # what the advantage returned besides, each leaf [T, B, ...] or [N, ...]; else ()


class Hypers(NamedTuple):
    """All that vmap may sweep: a dict of scalars (or of [L] arrays) for each part."""

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
    beside the parameters, so it is checkpointed, resumed and swept with them; what of it is a metric, `apply` returns
    among the metrics.
    """

    # (key, policy, params, batch) -> state; the batch is zeros in the shapes of those to come, [T, B, ...]
    init: Callable[..., PyTree]
    # (state, what the plug takes, **hypers) -> (state, what the plug returns); for an estimator or a loss once for each
    # gradient step
    apply: Callable[..., tuple[PyTree, Any]]
    # (state, mean metrics of the update's last epoch, **hypers) -> state, once after each update; None does nothing
    after: Callable[..., PyTree] | None = None


class Algorithm(NamedTuple):
    """The plugs."""

    advantage: AdvantageFn | Running
    estimator: EstimatorFn | Running
    optimizer: Callable[..., Any]  # (**hypers) -> optax.GradientTransformation
    updater: Callable[..., Any] | None = None  # (algorithm, config, by_column, **hypers) -> updates.Updater; see there


class Learner(NamedTuple):
    """Anything that trains: what `training` and `runs` run.

    One update is `behaviour`, `collect` and `learn`, one after the other; `_replace` any of them to change it alone.
    A learner of another kind gives `update` instead, the whole of it, and works with JAX environments only: where an
    environment is stepped in Python, the host takes the place of `collect`. A learner keeps its stream in
    `state.rollout`, () where every update begins whole episodes.
    """

    init: Callable[[Array, Hypers], PyTree]  # (key, hypers) -> state
    policy: Callable[[PyTree], tuple[Policy, PyTree]]  # state -> (policy, params) to evaluate, act with and save
    behaviour: Callable[[PyTree], tuple[Policy, PyTree]] | None = None  # state -> the ones that act next
    # (key, policy, params, state, hypers) -> (RolloutState or (), trajectory) under the policy that acts
    collect: Callable[[Array, Policy, PyTree, PyTree, Hypers], tuple[PyTree, Trajectory]] | None = None
    # (key, state, RolloutState or (), trajectory, hypers) -> (state, metrics); best with episode_return and env_steps
    learn: Callable[[Array, PyTree, PyTree, Trajectory, Hypers], tuple[PyTree, dict[str, Array]]] | None = None
    # (key, state, hypers) -> (state, metrics), in place of the three
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

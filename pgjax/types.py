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

    @property
    def by_observation(self) -> bool:
        """Whether `evaluate` is declared to see each step alone, its next_value being its value at next_obs."""
        return self.stepwise is self.evaluate


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


# The keyword-only arguments of every plug are its hyperparameters: see `pgjax.hyperparameters`.

# (trajectory, now, **hypers) -> the advantage of each step and the target of the critic, each [T, B]; and, where a loss
# wants more, a tree of arrays [T, B, ...], which is `batch.extra`.
AdvantageFn = Callable[Concatenate[Trajectory, Evaluation, ...], tuple[Array, Array] | tuple[Array, Array, PyTree]]


class RunningAdvantage(NamedTuple):
    """An AdvantageFn that remembers: for baselines that average over all updates so far."""

    init: Callable[[], PyTree]  # () -> state
    # (state, trajectory, now, **hypers) -> (state, what an AdvantageFn returns)
    apply: Callable[Concatenate[PyTree, Trajectory, Evaluation, ...], tuple[PyTree, tuple[Any, ...]]]


# (now, batch, **hypers) -> one loss per step, [T, B] or [N], never a mean; and metrics, per step or scalar.
LossFn = Callable[Concatenate[Evaluation, Batch, ...], tuple[Array, dict[str, Array]]]

# (key, policy, params, batch, **hypers) -> a gradient of the loss with the tree of `params`, and scalar metrics.
EstimatorFn = Callable[Concatenate[Array, Policy, PyTree, Batch, ...], tuple[PyTree, dict[str, Array]]]


class RunningEstimator(NamedTuple):
    """An EstimatorFn that remembers from one update to the next: for coefficients that adapt."""

    init: Callable[[], PyTree]  # () -> state
    # (state, key, policy, params, batch, **hypers) -> (gradient, metrics)
    apply: Callable[Concatenate[PyTree, Array, Policy, PyTree, Batch, ...], tuple[PyTree, dict[str, Array]]]
    # (state, metrics of the last epoch, **hypers) -> state
    after: Callable[Concatenate[PyTree, dict[str, Array], ...], PyTree]


class Algorithm(NamedTuple):
    """The three plugs."""

    advantage: AdvantageFn | RunningAdvantage
    estimator: EstimatorFn | RunningEstimator
    optimizer: Callable[..., Any]  # (**hypers) -> optax.GradientTransformation


class Learner(NamedTuple):
    """Anything that trains: what `training` and `runs` run.

    `behaviour` and `learn` split `step` in two, for environments that are stepped in Python: `behaviour` gives the
    policy that acts, `learn` updates from the experience that it gathered. A learner without them works with JAX
    environments only. One with them keeps its stream in `state.rollout`, () where every update begins whole episodes.
    """

    init: Callable[[Array, Hypers], PyTree]  # (key, hypers) -> state
    # (key, state, hypers) -> (state, metrics); best with episode_return and env_steps
    step: Callable[[Array, PyTree, Hypers], tuple[PyTree, dict[str, Array]]]
    policy: Callable[[PyTree], tuple[Policy, PyTree]]  # state -> (policy, params) to evaluate, act with and save
    behaviour: Callable[[PyTree], tuple[Policy, PyTree]] | None = None  # state -> the ones that act next
    # (key, state, RolloutState or (), trajectory, hypers) -> (state, metrics)
    learn: Callable[[Array, PyTree, PyTree, Trajectory, Hypers], tuple[PyTree, dict[str, Array]]] | None = None

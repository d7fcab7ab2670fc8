"""The hyperparameters of a learner with replay, and the check that everything else fits it."""

from collections.abc import Callable
from typing import Annotated, Any

import optax

from pgjax.config import Config, check_config, check_unused
from pgjax.declarations import Role, Trait, traits_of
from pgjax.envs.spaces import check_actions
from pgjax.hyperparameters import Probability, Range, by_role, declare, hyperparameters, name_of, value_of
from pgjax.types import (
    AdvantageFn,
    Algorithm,
    Array,
    Batch,
    Env,
    EstimatorFn,
    Policy,
    PyTree,
    Running,
)


def replayed(estimator: EstimatorFn) -> EstimatorFn:
    """Add the learner's hyperparameters to the estimator's signature, so that they can be set by name.

    The estimator itself ignores them.

    Those are:
      tau: the targets' step, theta' <- tau theta + (1 - tau) theta' (Lillicrap et al. 2016, alg. 1).
      target_period: gradient steps from one such step to the next; with tau = 1, copies (Mnih et al. 2015).
      batch_size, buffer_size: rows of a gradient step; latest environment steps that are kept.
      warmup: environment steps of uniform actions before anything is learned.
      gradient_steps: of each update, in which num_envs x num_steps environment steps were made.
    """

    def replaying(
        key: Array,
        policy: Policy,
        params: PyTree,
        batch: Batch,
        *,
        tau: Probability = 0.005,
        target_period: Annotated[int, Range(1)] = 1,
        batch_size: Annotated[int, Range(1)] = 256,
        buffer_size: Annotated[int, Range(1)] = 100_000,
        warmup: Annotated[int, Range(0), Role.WARMUP] = 1_000,
        gradient_steps: Annotated[int, Range(1)] = 16,
        **hypers: Any,
    ) -> tuple[PyTree, dict[str, Array]]:
        del tau, target_period, batch_size, buffer_size, warmup, gradient_steps
        return estimator(key, policy, params, batch, **hypers)

    replaying.__name__ = name_of(estimator)
    return declare(replaying, estimator)


def check_replay(
    env: Env, algorithm: Algorithm, config: Config
) -> tuple[AdvantageFn, EstimatorFn, Callable[..., optax.GradientTransformation]]:
    """The three plugs; ValueError for any option that a learner with replay does not support."""
    check_config(env, config)
    check_actions(env.action_space)  # the learners with replay make their own networks
    check_unused(config, INAPPLICABLE, "with replay")
    advantage, estimator, optimizer, updater = algorithm
    if updater is not None:
        raise ValueError(
            f"updater={name_of(updater)!r} has no meaning with replay, which has gradient_steps; leave it out"
        )
    if hasattr(optimizer(), "final"):
        raise ValueError(
            f"optimizer {name_of(optimizer)!r} evaluates other parameters than those that learn, replay has no place "
            "for them; use adam"
        )
    ordered = {Trait.IN_ORDER, Trait.WHOLE_EPISODES}
    if isinstance(advantage, Running) or traits_of(advantage) & ordered:
        raise ValueError(f"advantage={name_of(advantage)!r} needs steps in order, replay has rows; use td")
    if Trait.PLAYS in traits_of(advantage):
        raise ValueError(f"advantage={name_of(advantage)!r} plays on from states, and replay keeps none; use td")
    if isinstance(estimator, Running):
        raise ValueError(f"estimator {name_of(estimator)!r} remembers from update to update, and replay has none")
    options = hyperparameters(estimator)
    if missing := [name for name in OPTIONS if name not in options]:
        raise ValueError(f"estimator {name_of(estimator)!r} has no hyperparameter {missing[0]!r}; use `replayed`")
    if traits_of(estimator) & ordered:
        raise ValueError(f"estimator {name_of(estimator)!r} needs steps in order, and replay has rows")
    for name in set(OPTIONS) - {"tau", "warmup"}:
        if options[name] < 1:
            raise ValueError(f"{name} must be 1 or more, got {options[name]}")
    if options["warmup"] < 0:
        raise ValueError(f"warmup must be 0 or more, got {options['warmup']}")
    if value_of(estimator, Role.NORMALIZE):
        name = by_role(estimator)[Role.NORMALIZE]
        raise ValueError(f"{name}=True has no meaning with replay: nothing here goes by an advantage")
    rows, size = config.num_envs * config.num_steps, options["buffer_size"]
    if size < max(rows, options["batch_size"]):
        raise ValueError(
            f"buffer_size={size} holds neither num_envs x num_steps = {rows} rows nor a batch; "
            f"use {max(rows, options['batch_size'])} or more"
        )
    return advantage, estimator, optimizer


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
    "critics": "use critics=1: the learner makes its own critics",
    "distribution": "use distribution='gaussian': the learner chooses its own",
    "log_std": "use log_std='parameter': the learner chooses its own",
    "shared": "use shared=False",
    "kernel": "use kernel='xla'",
    "pretrain": "it learns from replay alone; use pretrain=0",
    "examples": "it learns from replay alone; leave it out",
    "heads": "its networks are no transformers; leave it out",
    "positions": "its networks are no transformers; leave it out",
}

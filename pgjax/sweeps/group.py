"""Groups of lanes: the settings that share one compiled program, each with its learner, rehearsed in shapes alone."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgjax import hyperparameters
from pgjax.algorithms import acting, roster
from pgjax.config import Config, check_config
from pgjax.declarations import Role
from pgjax.envs.parameters import check_values
from pgjax.errors import named
from pgjax.plugs import made_policy
from pgjax.running import check_state
from pgjax.sweeps import environment, names
from pgjax.sweeps.values import checked_updates
from pgjax.types import Algorithm, Env, Hypers, Learner, Policy

PARTS = ("env", *Algorithm._fields, "config")


class Group(NamedTuple):
    """Lanes that share one compiled program."""

    env: Env
    policy: Policy
    algorithm: Algorithm
    learner: Learner
    config: Config
    settings: list[dict[str, Any]]  # one selector for each: axis -> value, static ones included
    hypers: list[Hypers]  # one for each setting
    updates: int
    steps_per_update: int  # at most: with whole episodes, the time limit counts in full


def make_group(
    *,
    row: roster.Entry,
    env: Any,
    make_policy: Callable[[Env, Config], Policy],
    chosen: dict[str, Any],
    points: list[dict[str, Any]],
    selectors: list[dict[str, Any]],
    known: names.Known,
    taken: set[str],
    steps: int | None,
    updates: int | None,
) -> Group:
    """The group of one combination of static choices.

    Args:
      chosen: full name -> value of what all its settings share; points: of each setting, what it has besides.
      selectors: of each setting, its labels.
      taken: names that a metric can't have.
      steps, updates: of each lane, whichever was given.

    Raises:
      ValueError: for plugs, options and an environment that don't fit together.
    """
    frozen = {k: v for k, v in chosen.items() if not names.swept(k, known)}
    built_env = environment.made(env, names.part("env", chosen))
    if any(full.startswith("env.") for full in points[0]):  # the bounds of its actions are the same for all points
        given = names.part("env", {**chosen, **points[0]})
        built_env = built_env._replace(action_space=environment.made(env, given).action_space)
    config = dataclasses.replace(row.config, **names.part("config", frozen))
    algorithm = row.algorithm._replace(
        **{
            part: hyperparameters.bind(plug, **names.part(part, frozen))
            for part, plug in hyperparameters.plugs(row.algorithm).items()
        }
    )
    check_config(built_env, config)
    policy = made_policy(make_policy, built_env, config)
    built = row.learner(built_env, policy, algorithm, config)
    if built.update and built.learn:
        raise ValueError("a Learner has either update or learn; with both, it would be unclear which of them runs")
    if built_env.host and built.learn is None:
        raise ValueError("this learner needs a JAX environment, and this one is stepped in Python; choose another")
    where = env if isinstance(env, str) else "the environment"
    hypers = [_hypers(built_env, algorithm, {**chosen, **point}, known, where) for point in points]
    per_update = config.num_envs * (config.num_steps or built_env.max_steps)
    updates = checked_updates(updates or -(-(steps or row.steps) // per_update))
    _rehearse(built_env, policy, algorithm, built, config, hypers, taken)
    return Group(
        env=built_env,
        policy=policy,
        algorithm=algorithm,
        learner=built,
        config=config,
        settings=selectors,
        hypers=hypers,
        updates=updates,
        steps_per_update=per_update,
    )


def _hypers(env: Env, algorithm: Algorithm, values: dict[str, Any], known: names.Known, where: str) -> Hypers:
    """What lanes of one setting may differ in."""
    check_values(env.params, names.part("env", values), where)
    swept = {k: v for k, v in values.items() if names.swept(k, known)}
    return hyperparameters.default_hypers(algorithm, **{part: names.part(part, swept) for part in PARTS[:-1]})


def _rehearse(
    env: Env,
    policy: Policy,
    algorithm: Algorithm,
    learner: Learner,
    config: Config,
    hypers: list[Hypers],
    taken: set[str],
) -> None:
    """One update of shapes alone: a loss or a network of the user's is traced before anything is compiled or written.

    Args:
      taken: names that a metric can't have.
    """
    stop = hyperparameters.by_role(algorithm.estimator).get(Role.STOP_KL)
    finite = stop is not None and any(float(h.estimator[stop]) < jnp.inf for h in hypers)
    if finite and (config.lag or config.epsilon):
        raise ValueError(
            f"{stop} needs lag=0 and epsilon=0, as it measures the KL to the acting policy; set those, or {stop}=inf"
        )
    with named("the policy"):
        acting.check_acting(env, policy)
    with named("one update"):

        def first(key):
            begun = learner.init(key, hypers[0])
            return begun, *learner.step(key, begun, hypers[0])

        try:
            begun, following, metrics = jax.eval_shape(first, jax.random.key(0))
        except TypeError as error:
            if not jax.config.read("jax_enable_x64") or not any(kind in str(error) for kind in ("float64", "int64")):
                raise
            line = "jax_enable_x64=True: one update mixes 32 and 64 bits; turn it off (JAX_ENABLE_X64=0)"
            raise ValueError(line) from error
    check_state("the learner", begun, following, "step")
    for name in metrics:
        if name in taken:
            raise ValueError(f"metric {name!r} has the name of a setting given as a list; rename the metric")

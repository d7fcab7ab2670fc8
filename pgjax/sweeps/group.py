"""Groups of lanes: the settings that share one compiled program, each with its learner, rehearsed in shapes alone."""

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgjax import hyperparameters
from pgjax.algorithms import acting, roster
from pgjax.config import Config, check_config
from pgjax.declarations import Role
from pgjax.envs import registry
from pgjax.envs.parameters import check_values
from pgjax.errors import named
from pgjax.plugs import made_policy
from pgjax.running import check_state
from pgjax.sweeps import environment, names
from pgjax.sweeps.identity import key_of
from pgjax.sweeps.kept import Kept
from pgjax.sweeps.values import checked_updates
from pgjax.types import Algorithm, Env, Hypers, Learner, Policy, PyTree

PARTS = ("env", *Algorithm._fields, "config")


class Rehearsal(NamedTuple):
    """What one update in shapes alone has shown."""

    state: PyTree  # the shapes of a learner's state
    metrics: tuple[str, ...]  # names


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
    state: PyTree  # the shapes of a learner's state
    key: Hashable | None  # groups of one key have the same programs; None where that can't be told


REHEARSED: Kept[Rehearsal] = Kept(64)


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
    plugs = hyperparameters.plugs(row.algorithm)
    bound = {part: hyperparameters.bind(plug, **names.part(part, frozen)) for part, plug in plugs.items()}
    algorithm = row.algorithm._replace(**bound)
    check_config(built_env, config)
    policy = made_policy(make_policy, built_env, config)
    learner = row.learner(built_env, policy, algorithm, config)
    if learner.update and learner.learn:
        raise ValueError("a Learner has either update or learn; with both, it would be unclear which of them runs")
    if built_env.host and learner.learn is None:
        raise ValueError("this learner needs a JAX environment, and this one is stepped in Python; choose another")
    where = env if isinstance(env, str) else "the environment"
    hypers = [_hypers(built_env, algorithm, {**chosen, **point}, known, where) for point in points]
    per_update = config.num_envs * (config.num_steps or built_env.max_steps)
    updates = checked_updates(updates or -(-(steps or row.steps) // per_update))
    _check_stop(algorithm, config, hypers)
    key = None if built_env.host else _key(env, built_env, sorted(hypers[0].env), make_policy, row, frozen)
    rehearsed = REHEARSED.get(key, lambda: _rehearsed(built_env, policy, learner, hypers[0]))
    if found := [name for name in rehearsed.metrics if name in taken]:
        raise ValueError(f"metric {found[0]!r} has the name of a setting given as a list; rename the metric")
    return Group(
        env=built_env,
        policy=policy,
        algorithm=algorithm,
        learner=learner,
        config=config,
        settings=selectors,
        hypers=hypers,
        updates=updates,
        steps_per_update=per_update,
        state=rehearsed.state,
        key=key,
    )


def _hypers(env: Env, algorithm: Algorithm, values: dict[str, Any], known: names.Known, where: str) -> Hypers:
    """What lanes of one setting may differ in."""
    check_values(env.params, names.part("env", values), where)
    swept = {k: v for k, v in values.items() if names.swept(k, known)}
    return hyperparameters.default_hypers(algorithm, **{part: names.part(part, swept) for part in PARTS[:-1]})


def _key(
    given: Any, env: Env, replaced: list[str], make_policy: Any, row: roster.Entry, frozen: dict[str, Any]
) -> Hashable | None:
    """The key of a group's programs.

    Args:
      given: the environment as the user named or gave it; env: what was made of it.
      replaced: the names of the parameters that the lanes bring along. What programs read of the numbers that the
        environment was made with is in its spaces.
    """
    suite = isinstance(given, str) and ":" in given
    maker = registry.factory(given) if isinstance(given, str) and not suite else given
    known = isinstance(given, str) and getattr(maker, "__module__", "").partition(".")[0] in ("gymnax", "pgjax")
    # What made another one may make something else by now: a user's function reads a file, a suite has a registry.
    made = () if known else (env.reset, env.step, env.expert, env.held_out)
    spaces = env.observation_space, env.action_space
    name = given if isinstance(given, str) else ""
    return key_of(name, maker, made, spaces, replaced, make_policy, row, frozen)


def _rehearsed(env: Env, policy: Policy, learner: Learner, hypers: Hypers) -> Rehearsal:
    """One update in shapes alone: so a loss or a network of the user's is traced before anything is compiled."""
    with named("the policy"):
        acting.check_acting(env, policy)
    with named("one update"):

        def first(key):
            begun = learner.init(key, hypers)
            return begun, *learner.step(key, begun, hypers)

        try:
            begun, following, metrics = jax.eval_shape(first, jax.random.key(0))
        except TypeError as error:
            if not jax.config.read("jax_enable_x64") or not any(kind in str(error) for kind in ("float64", "int64")):
                raise
            line = "jax_enable_x64=True: one update mixes 32 and 64 bits; turn it off (JAX_ENABLE_X64=0)"
            raise ValueError(line) from error
    check_state("the learner", begun, following, "step")
    return Rehearsal(begun, tuple(metrics))


def _check_stop(algorithm: Algorithm, config: Config, hypers: list[Hypers]) -> None:
    """ValueError where updates would be stopped at a KL that can't be measured."""
    stop = hyperparameters.by_role(algorithm.estimator).get(Role.STOP_KL)
    finite = stop is not None and any(float(h.estimator[stop]) < jnp.inf for h in hypers)
    if finite and (config.lag or config.epsilon):
        raise ValueError(
            f"{stop} needs lag=0 and epsilon=0, as it measures the KL to the acting policy; set those, or {stop}=inf"
        )

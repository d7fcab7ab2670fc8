"""What the user asked for in; validated groups of lanes out, each ready for one compilation.

A setting is named `part.name`, the parts being env, advantage, estimator, optimizer and config, or
by its name alone where one part only has it. A list of values makes a grid. Floats are swept by vmap;
everything else is static and makes groups, one compilation each, as do environment parameters that move the bounds
of actions. A list of settings, one dict for each, is taken as it is: what a random search draws.
"""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import hyperparameters, policies
from pgjax.algorithms import compatibility, roster
from pgjax.config import RANGES, Config, check_config
from pgjax.envs.parameters import check_values, param_names
from pgjax.envs.registry import settable
from pgjax.errors import named
from pgjax.hyperparameters import Range, Role
from pgjax.sweeps import environment, names
from pgjax.sweeps.values import EVERY, bounded, checked_updates, seed_numbers, whole
from pgjax.types import Algorithm, Env, Hypers, Learner, Policy

PARTS = ("env", "advantage", "estimator", "optimizer", "config")


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


class Plan(NamedTuple):
    groups: list[Group]
    axes: dict[str, list[Any]]  # label -> values of every list, or "setting" -> numbers of the points
    seeds: list[int]
    points: list[dict[str, Any]] | None  # label -> value for each setting of a list of settings
    chosen: dict[str, Any]  # "fixed", "axes" and "points", by full name: what `plan` needs to make this again


def plan(
    algorithm: Any,
    env: Any,
    *,
    seeds: int | list[int] = 1,
    seed: int = 0,
    steps: int | None = None,
    updates: int | None = None,
    settings: dict[str, Any] | list[dict[str, Any]] | None = None,
    loss: Any = None,
    policy: Callable[[Env, Config], Policy] | None = None,
    varied: Collection[str] = (),
    recorded: bool = False,
) -> Plan:
    """Check everything that can be checked before anything is compiled or written.

    Args:
      algorithm: a name of the roster, or an Algorithm or a `roster.Entry` of one's own.
      env: a registered name, an Env, or a function without arguments that returns an Env or a gymnax
        environment.
      seeds: how many, counted from `seed`; or the list of them.
      steps: environment steps of each lane, rounded up to whole updates; updates: their number
        instead, each one rollout and all its gradient steps.
      settings: name -> value or list of values, of which all combinations are tried; or a list of
        settings, each name -> value, all of the same names.
      loss: a LossFn in place of the algorithm's policy loss.
      policy: (env, config) -> Policy; by default the network that config names.
      varied: full names that belong to each point of a list of settings even where all points agree in them: of a
        plan that is made again, of some of its points.
      recorded: whether the settings are those of a run that was made, and so are taken as they are, in whatever range.

    Raises:
      ValueError, TypeError: naming the argument, the value and the fix.
    """
    if isinstance(settings, list) and not settings:
        raise ValueError("settings: the list of settings is empty")
    row = _row(algorithm, loss, policy)
    numbers = seed_numbers(seeds, seed)
    if steps is not None and updates is not None:
        raise ValueError("give steps or updates, not both")
    steps, updates = whole("steps", steps), whole("updates", updates)
    known = _known(row, env)
    ranges = _ranges(row)
    given = names.settings(settings, known, lambda full: None if recorded else ranges.get(full, EVERY), varied)
    bounded(f"{given.size:,} settings x {len(numbers):,} seeds", given.size * len(numbers))
    table = given.table()

    named_here = list(table[0])
    labels = {full: full.partition(".")[2] if names.unique(full, known) else full for full in named_here}
    points = [{labels[full]: x for full, x in one.items()} for one in table]
    selectors = [{"setting": i} for i in range(len(table))] if given.listed else points
    groups: dict[tuple[Any, Any], list[int]] = {}
    for i, (one, bounds) in enumerate(zip(table, _bounds(env, given.fixed, table, known), strict=True)):
        static = tuple((k, v) for k, v in one.items() if not names.swept(k, known))
        groups.setdefault((static, bounds), []).append(i)
    built = [
        _group(
            row=row,
            env=env,
            make_policy=policy or policies.make,
            chosen={**given.fixed, **dict(static)},
            points=[table[i] for i in members],
            selectors=[selectors[i] for i in members],
            known=known,
            taken={"setting", *labels.values()},
            steps=steps,
            updates=updates,
        )
        for (static, _), members in groups.items()
    ]
    fixed = {**_defaults(known, named_here), **given.fixed}
    chosen = {"fixed": fixed, "axes": given.axes, "points": table if given.listed else None}
    shown = {"setting": list(range(len(table)))} if given.listed else {labels[f]: x for f, x in given.axes.items()}
    return Plan(built, shown, numbers, points if given.listed else None, chosen)


def _row(algorithm: Any, loss: Any, policy: Any) -> roster.Entry:
    """The row of the roster that was asked for, with the user's loss."""
    row = roster.entry(algorithm) if isinstance(algorithm, str) else algorithm
    if isinstance(row, Algorithm):
        row = roster.Entry(row)
    if not isinstance(row, roster.Entry):
        raise TypeError(f"algorithm must be a name, an Algorithm or an Entry, got {algorithm!r}")
    if policy is not None and row.own_policy:
        raise ValueError(f"policy: {algorithm!r} makes its own networks; leave policy out")
    return row if loss is None else roster.with_loss(row, loss)


def _defaults(known: names.Known, but: list[str]) -> dict[str, Any]:
    """What a run records beside the settings, since a later version may have other defaults.

    Parameters of an environment are the environment's own to record.
    """
    return {
        f"{part}.{name}": value
        for part in PARTS[1:]
        for name, value in known[part].items()
        if f"{part}.{name}" not in but and (part == "config" or isinstance(value, (int, float, str)))
    }


def _group(
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
    frozen = {k: v for k, v in chosen.items() if not names.swept(k, known)}
    world = environment.made(env, names.part("env", chosen))
    if any(full.startswith("env.") for full in points[0]):  # the bounds of its actions are the same for all points
        given = names.part("env", {**chosen, **points[0]})
        world = world._replace(action_space=environment.made(env, given).action_space)
    config = dataclasses.replace(row.config, **names.part("config", frozen))
    algorithm = row.algorithm._replace(
        **{
            part: hyperparameters.bind(getattr(row.algorithm, part), **names.part(part, frozen))
            for part in ("advantage", "estimator", "optimizer")
        }
    )
    check_config(world, config)
    policy = make_policy(world, config)
    built = row.learner(world, policy, algorithm, config)
    if world.host and built.learn is None:
        raise ValueError("the environment is stepped on the host, and this learner steps it itself; choose another")
    hypers = []
    for point in points:
        given = names.part("env", {**chosen, **point})
        check_values(world.params, given, env if isinstance(env, str) else "the environment")
        swept = {k: v for k, v in {**chosen, **point}.items() if names.swept(k, known)}
        parts = {part: names.part(part, swept) for part in PARTS if part != "config"}
        hypers.append(hyperparameters.default_hypers(algorithm, **parts))
    # A loss or a network of the user's is traced here, before anything is compiled or written.
    per_update = config.num_envs * (config.num_steps or world.max_steps)
    updates = checked_updates(updates or -(-(steps or row.steps) // per_update))
    stop = hyperparameters.by_role(algorithm.estimator).get(Role.STOP_KL)
    finite = stop is not None and any(float(h.estimator[stop]) < jnp.inf for h in hypers)
    if finite and (config.lag or config.epsilon):
        raise ValueError(f"{stop} is of the KL to the policy that acted; use lag=0 and epsilon=0, or {stop}=inf")
    with named("the policy"):
        compatibility.check_acting(world, policy)
    with named("one update"):
        first = lambda key: built.step(key, built.init(key, hypers[0]), hypers[0])  # noqa: E731
        try:
            metrics = jax.eval_shape(first, jax.random.key(0))[1]
        except TypeError as error:
            if not jax.config.read("jax_enable_x64") or not any(kind in str(error) for kind in ("float64", "int64")):
                raise
            line = "jax_enable_x64=True: one update mixes 32 and 64 bits; turn it off (JAX_ENABLE_X64=0)"
            raise ValueError(line) from error
    for name in metrics:
        if name in taken:
            raise ValueError(f"metric {name!r} has the name of a setting given as a list; rename the metric")
    return Group(
        env=world,
        policy=policy,
        algorithm=algorithm,
        learner=built,
        config=config,
        settings=selectors,
        hypers=hypers,
        updates=updates,
        steps_per_update=per_update,
    )


def _bounds(env: Any, fixed: dict[str, Any], table: list[dict[str, Any]], known: names.Known) -> list[Any]:
    """For each setting something that tells the bounds of its actions: networks are made in their units."""

    def bounds(values):
        space = environment.made(env, names.part("env", {**fixed, **values})).action_space
        return tuple(np.asarray(x).tobytes() for x in (space.low, space.high)) if hasattr(space, "low") else ()

    swept = [full for full in table[0] if full.startswith("env.") and names.swept(full, known)]
    if not swept or not (usual := bounds({})):
        return [()] * len(table)
    ends = {full: [pick(one[full] for one in table) for pick in (min, max)] for full in swept}
    moving = [full for full in swept if any(bounds({full: x}) != usual for x in ends[full])]
    return [bounds({full: one[full] for full in moving}) if moving else usual for one in table]


def _known(row: roster.Entry, env: Any) -> dict[str, dict[str, Any]]:
    """Part -> name -> default of everything that can be set."""
    with named(f"env {env!r}"):
        world = settable(env) if isinstance(env, str) else dict(param_names(environment.made(env, {}).params))
    if "max_steps_in_episode" in world:
        # The length of a scan, so never swept, though some worlds give it as a float.
        world["max_steps_in_episode"] = int(world["max_steps_in_episode"])
    return {
        "env": world,
        "advantage": hyperparameters.hyperparameters(row.algorithm.advantage),
        "estimator": hyperparameters.hyperparameters(row.algorithm.estimator),
        "optimizer": hyperparameters.hyperparameters(row.algorithm.optimizer),
        "config": dataclasses.asdict(row.config),
    }


def _ranges(row: roster.Entry) -> dict[str, Range]:
    """Full name -> where its values must lie, as the plugs declare it."""
    declared = {part: hyperparameters.ranges(getattr(row.algorithm, part)) for part in PARTS[1:-1]}
    declared["config"] = dict(RANGES)
    return {f"{part}.{name}": found for part, own in declared.items() for name, found in own.items()}

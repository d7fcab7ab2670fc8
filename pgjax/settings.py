"""What the user asked for in; validated groups of lanes out, each ready for one compilation.

A setting is named `part.name`, the parts being env, advantage, estimator, optimizer and config, or
by its name alone where one part only has it. A list of values makes a grid. Floats are swept by vmap;
everything else is static and makes groups, one compilation each.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from pgjax import algorithms, envs, learner, plugs, policies, sweep
from pgjax.envs.adapter import check, param_names, replace_fields, settable
from pgjax.parsing import convert, named, seed_numbers, whole
from pgjax.types import Algorithm, Config, Env, Hypers, Learner, Policy

PARTS = ("env", "advantage", "estimator", "optimizer", "config")


class Group(NamedTuple):
    """Lanes that share one compiled program."""

    env: Env
    policy: Policy
    algorithm: Algorithm
    learner: Learner
    config: Config
    settings: list[dict[str, Any]]  # label -> value, one dict for each setting, static labels included
    hypers: list[Hypers]  # one for each setting
    updates: int
    steps_per_update: int  # at most: with whole episodes, the time limit counts in full


class Plan(NamedTuple):
    groups: list[Group]
    axes: dict[str, list[Any]]  # label -> values, for every setting given as a list
    seeds: list[int]
    chosen: dict[str, dict[str, Any]]  # "fixed" and "axes", by full name: what `plan` needs to make this again


def plan(
    algorithm: Any,
    env: Any,
    *,
    seeds: int | list[int] = 1,
    seed: int = 0,
    steps: int | None = None,
    updates: int | None = None,
    settings: dict[str, Any] | None = None,
    loss: Any = None,
    policy: Callable[[Env, Config], Policy] | None = None,
) -> Plan:
    """Check everything that can be checked before anything is compiled or written.

    Args:
      algorithm: a name of the roster, or an Algorithm or an `algorithms.Entry` of one's own.
      env: a registered name, an Env, or a function without arguments that returns an Env or a gymnax
        environment.
      seeds: how many, counted from `seed`; or the list of them.
      steps: environment steps of each lane, rounded up to whole updates; updates: their number
        instead, each one rollout and all its gradient steps.
      settings: name -> value or list of values.
      loss: a LossFn in place of the algorithm's policy loss.
      policy: (env, config) -> Policy; by default the network that config names.

    Raises:
      ValueError, TypeError: naming the argument, the value and the fix.
    """
    row = algorithms.entry(algorithm) if isinstance(algorithm, str) else algorithm
    if isinstance(row, Algorithm):
        row = algorithms.Entry(row)
    if not isinstance(row, algorithms.Entry):
        raise TypeError(f"algorithm must be a name, an Algorithm or an Entry, got {algorithm!r}")
    if not isinstance(settings or {}, dict):
        raise TypeError(f"settings must be a dict of name -> value or list of values, got {settings!r}")
    if loss is not None:
        row = algorithms.with_loss(row, loss)
    numbers = seed_numbers(seeds, seed)
    if steps is not None and updates is not None:
        raise ValueError("give steps or updates, not both")
    steps, updates = whole("steps", steps), whole("updates", updates)
    known = _known(row, env)
    given: dict[str, Any] = {}
    for name, value in (settings or {}).items():
        full = resolve(str(name), known)
        if full in given:
            raise ValueError(f"{full} was given twice")
        given[full] = value
    axes, fixed = {}, {}
    for full, value in given.items():
        part, _, name = full.partition(".")
        default = known[part][name]
        several = isinstance(value, (list, range, np.ndarray)) or (
            isinstance(value, tuple) and not isinstance(default, tuple)
        )
        values = [convert(full, x, default) for x in (value if several else [value])]
        if not values:
            raise ValueError(f"{full} was given no value")
        if several and full == "config.eval_episodes":
            raise ValueError("config.eval_episodes must be one number, the same for every setting")
        if len(set(values)) < len(values):
            raise ValueError(f"{full} has the same value twice: {', '.join(map(str, values))}")
        if several:
            axes[full] = values
        else:
            fixed[full] = values[0]

    labels = {full: full.partition(".")[2] if _unique(full, known) else full for full in axes}
    groups: dict[tuple, list[dict]] = {}
    for point in sweep.grid(axes):
        static = tuple((k, v) for k, v in point.items() if not _swept(k, known))
        groups.setdefault(static, []).append(point)
    built = [
        _group(row, env, policy or policies.make, dict(static), fixed, points, known, labels, steps, updates)
        for static, points in groups.items()
    ]
    # Defaults too, since a later version may have others; an environment's are the environment's own.
    defaults = {
        f"{part}.{name}": value
        for part in PARTS[1:]
        for name, value in known[part].items()
        if f"{part}.{name}" not in axes and (part == "config" or isinstance(value, (int, float, str)))
    }
    chosen = {"fixed": {**defaults, **fixed}, "axes": axes}
    return Plan(built, {labels[full]: values for full, values in axes.items()}, numbers, chosen)


def _group(row, env, make_policy, static, fixed, points, known, labels, steps, updates) -> Group:
    chosen = {**fixed, **static}
    frozen = {k: v for k, v in chosen.items() if not _swept(k, known)}
    world = _env(env, _part("env", frozen))
    config = dataclasses.replace(row.config, **_part("config", frozen))
    algorithm = row.algorithm._replace(
        **{
            part: plugs.bind(getattr(row.algorithm, part), **_part(part, frozen))
            for part in ("advantage", "estimator", "optimizer")
        }
    )
    learner.check_config(world, config)
    policy = make_policy(world, config)
    built = row.learner(world, policy, algorithm, config)
    hypers = []
    for point in points:
        swept = {k: v for k, v in {**fixed, **point}.items() if _swept(k, known)}
        parts = {part: _part(part, swept) for part in PARTS if part != "config"}
        hypers.append(learner.default_hypers(algorithm, **parts))
    # A loss or a network of the user's is traced here, before anything is compiled or written.
    with named("the policy"):
        policies.check_actions(world, policy)
    with named("one update"):
        first = lambda key: built.step(key, built.init(key, hypers[0]), hypers[0])  # noqa: E731
        metrics = jax.eval_shape(first, jax.random.key(0))[1]
    for name in metrics:
        if name in labels.values():
            raise ValueError(f"metric {name!r} has the name of a setting given as a list; rename the metric")
    per_update = config.num_envs * (config.num_steps or world.max_steps)
    return Group(
        env=world,
        policy=policy,
        algorithm=algorithm,
        learner=built,
        config=config,
        settings=[{labels[k]: v for k, v in point.items()} for point in points],
        hypers=hypers,
        updates=updates or -(-(steps or row.steps) // per_update),
        steps_per_update=per_update,
    )


def _env(env: Any, static: dict[str, Any]) -> Env:
    if isinstance(env, str):
        return envs.make(env, **static)
    made = env
    if not isinstance(env, Env) and not hasattr(env, "step_env"):
        if not callable(env):
            raise TypeError(
                f"env must be a name, an Env, a gymnax environment or a function that makes one, got {env!r}"
            )
        with named(f"env {plugs.name_of(env)!r}"):
            made = env()
    if hasattr(made, "step_env"):
        return envs.from_gymnax(made, replace_fields(made.default_params, static, "the environment"))
    if not isinstance(made, Env):
        raise TypeError(
            f"env {plugs.name_of(env)!r} returned {type(made).__name__}; expected a pgjax Env or a gymnax one"
        )
    with named("the environment"):
        check(made)
    limit = static.get("max_steps_in_episode", made.max_steps)
    return made._replace(params=replace_fields(made.params, static, "the environment"), max_steps=limit)


def _known(row: algorithms.Entry, env: Any) -> dict[str, dict[str, Any]]:
    """Part -> name -> default of everything that can be set."""
    with named(f"env {env!r}"):
        world = settable(env) if isinstance(env, str) else param_names(_env(env, {}).params)
    if "max_steps_in_episode" in world:
        # The length of a scan, so never swept, though some worlds give it as a float.
        world = {**world, "max_steps_in_episode": int(world["max_steps_in_episode"])}
    return {
        "env": world,
        "advantage": plugs.hyperparameters(row.algorithm.advantage),
        "estimator": plugs.hyperparameters(row.algorithm.estimator),
        "optimizer": plugs.hyperparameters(row.algorithm.optimizer),
        "config": dataclasses.asdict(row.config),
    }


def resolve(name: str, known: dict[str, dict[str, Any]]) -> str:
    """The full name `part.name` of what may have been given by its name alone."""
    part, dot, bare = name.partition(".")
    if dot:
        if part not in known:
            raise ValueError(plugs.unknown("no part", part, known))
        if bare not in known[part]:
            raise ValueError(plugs.unknown(f"{part} takes no hyperparameter", bare, known[part]))
        return name
    owners = [part for part in known if name in known[part]]
    if not owners:
        raise ValueError(plugs.unknown("no hyperparameter", name, [n for names in known.values() for n in names]))
    if len(owners) > 1:
        raise ValueError(f"hyperparameter {name!r} is ambiguous; say {' or '.join(f'{p}.{name}' for p in owners)}")
    return f"{owners[0]}.{name}"


def _unique(full: str, known: dict[str, dict[str, Any]]) -> bool:
    return sum(full.partition(".")[2] in names for names in known.values()) == 1


def _swept(full: str, known: dict[str, dict[str, Any]]) -> bool:
    part, _, name = full.partition(".")
    return part != "config" and isinstance(known[part][name], float)


def _part(part: str, values: dict[str, Any]) -> dict[str, Any]:
    return {full.partition(".")[2]: value for full, value in values.items() if full.startswith(f"{part}.")}

"""What the user asked for in; validated groups of lanes out, each ready for one compilation.

A setting is named `part.name`, the parts being env, advantage, estimator, optimizer and config, or
by its name alone where one part only has it. A list of values makes a grid. Floats are swept by vmap;
everything else is static and makes groups, one compilation each.
"""

import dataclasses
import importlib
import importlib.util
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from pgjax import algorithms, envs, learner, plugs, policies, sweep
from pgjax.envs.adapter import param_names, replace_fields, settable
from pgjax.types import Algorithm, Config, Env, Hypers, Learner, Policy

PARTS = ("env", "advantage", "estimator", "optimizer", "config")


class Group(NamedTuple):
    """Lanes that share one compiled program."""

    env: Env
    policy: Policy
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


def load(spec: str, option: str) -> Any:
    """The object that `module:name` or `path/to/file.py:name` stands for."""
    where, _, name = spec.rpartition(":")
    if not where or not name:
        raise ValueError(f"{option} must be module:name or file.py:name, got {spec!r}")
    try:
        if where.endswith(".py"):
            path = pathlib.Path(where)
            if not path.is_file():
                raise ValueError(f"{option}: no file {where!r}")
            module_spec = importlib.util.spec_from_file_location(path.stem, path)
            module = importlib.util.module_from_spec(module_spec)
            sys.modules.setdefault(path.stem, module)
            module_spec.loader.exec_module(module)
        else:
            sys.path.insert(0, "")
            try:
                module = importlib.import_module(where)
            finally:
                sys.path.remove("")
    except ImportError as error:
        raise ValueError(f"{option}: can't import {where!r}: {error}") from error
    if not hasattr(module, name):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise ValueError(plugs.unknown(f"{option}: {where} has no", name, public))
    return getattr(module, name)


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
      steps: environment steps of each lane; updates: gradient updates instead.
      settings: name -> value or list of values.
      loss: a LossFn in place of the algorithm's policy loss.
      policy: (env, config) -> Policy; by default the network that config names.

    Raises:
      ValueError, TypeError: naming the argument, the value and the fix.
    """
    row = algorithms.entry(algorithm) if isinstance(algorithm, str) else algorithm
    if isinstance(row, Algorithm):
        row = algorithms.Entry(row)
    if loss is not None:
        row = algorithms.with_loss(row, loss)
    numbers = _seeds(seeds, seed)
    for name, value in (("steps", steps), ("updates", updates)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")
    known = _known(row, env)
    given = {resolve(name, known): value for name, value in (settings or {}).items()}
    axes, fixed = {}, {}
    for full, value in given.items():
        part, _, name = full.partition(".")
        values = value if isinstance(value, list) else [value]
        if not values:
            raise ValueError(f"{full} was given no value")
        values = [_convert(full, x, known[part][name]) for x in values]
        if len(set(values)) < len(values):
            raise ValueError(f"{full} has the same value twice: {', '.join(map(str, values))}")
        if isinstance(value, list) and len(values) > 1:
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
    return Plan(built, {labels[full]: values for full, values in axes.items()}, numbers)


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
    _check_actions(world, policy)
    jax.eval_shape(lambda key: built.step(key, built.init(key, hypers[0]), hypers[0]), jax.random.key(0))
    per_update = config.num_envs * (config.num_steps or world.max_steps)
    return Group(
        env=world,
        policy=policy,
        learner=built,
        config=config,
        settings=[{labels[k]: v for k, v in point.items()} for point in points],
        hypers=hypers,
        updates=updates or -(-(steps or row.steps) // per_update),
        steps_per_update=per_update,
    )


def _check_actions(env: Env, policy: Policy) -> None:
    def sample(key):
        _, obs = env.reset(key, env.params)
        dist, _ = policy.act(policy.init(key), policy.memory(1), jax.tree.map(lambda x: x[None], obs))
        return dist.sample(key)

    action, space = jax.eval_shape(sample, jax.random.key(0)), env.action_space
    continuous = jax.numpy.issubdtype(action.dtype, jax.numpy.floating)
    if action.shape != (1, *space.shape) or continuous != hasattr(space, "low"):
        raise ValueError(
            f"the policy samples actions of shape {action.shape[1:]} and type {action.dtype}, "
            f"the action space is {space!r}; give the policy a distribution that fits"
        )


def _env(env: Any, static: dict[str, Any]) -> Env:
    if isinstance(env, str):
        return envs.make(env, **static)
    made = env if isinstance(env, Env) else env()
    if not isinstance(made, Env):
        if not hasattr(made, "step_env"):
            raise TypeError(
                f"env {plugs.name_of(env)!r} returned {type(made).__name__}; expected a pgjax Env or a gymnax one"
            )
        made = envs.from_gymnax(made)
    params = replace_fields(made.params, static, "the environment")
    limit = static.get("max_steps_in_episode", made.max_steps)
    return made._replace(params=params, max_steps=limit)


def _known(row: algorithms.Entry, env: Any) -> dict[str, dict[str, Any]]:
    """Part -> name -> default of everything that can be set."""
    return {
        "env": settable(env) if isinstance(env, str) else param_names(_env(env, {}).params),
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


def _convert(full: str, value: Any, default: Any) -> Any:
    """The value in the type of the default; text from the command line is parsed."""
    wanted = type(default)
    try:
        if wanted is bool and isinstance(value, str):
            return {"true": True, "false": False}[value.lower()]
        if wanted is tuple:
            parts = value.split("x") if isinstance(value, str) else value
            return tuple(int(x) for x in parts)
        if wanted is bool and not isinstance(value, bool):
            raise ValueError
        if wanted in (int, float):
            number = wanted(value)
            if wanted is int and not isinstance(value, str) and number != value:
                raise ValueError
            return number
        if wanted is str and not isinstance(value, str):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        example = {bool: "true or false", tuple: "such as 64x64", int: "a whole number", float: "a number"}
        kind = example.get(wanted, wanted.__name__)
        raise ValueError(f"{full} must be {kind}, got {value!r}") from None
    return value


def _seeds(seeds: int | list[int], seed: int) -> list[int]:
    numbers = list(range(seed, seed + seeds)) if isinstance(seeds, int) else list(seeds)
    if not numbers:
        raise ValueError(f"seeds must be 1 or more, got {seeds}")
    if min(numbers) < 0 or max(numbers) >= 2**32:
        raise ValueError(f"seeds must lie in [0, 2**32), got {min(numbers)} to {max(numbers)}")
    if len(set(numbers)) < len(numbers):
        raise ValueError("seeds has the same seed twice")
    return numbers

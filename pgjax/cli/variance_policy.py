"""Finds the environment, the policy and the parameters that `pgjax variance` measures."""

from typing import Any, NamedTuple

import jax

from pgjax import envs
from pgjax.cli import common
from pgjax.cli.options_reading import Variance
from pgjax.config import Config, check_config
from pgjax.declarations import Role
from pgjax.envs import registry
from pgjax.errors import unknown
from pgjax.hyperparameters import by_role
from pgjax.numerics import keys
from pgjax.policies.registry import make
from pgjax.runs import load
from pgjax.sweeps import values
from pgjax.sweeps.values import distinct
from pgjax.types import Env, Policy, PyTree

SHAPES = ("network", "hidden", "activation", "shared")


class Subject(NamedTuple):
    """The policies whose gradients are measured, and their environment."""

    env: Env
    points: dict[int, tuple[Policy, PyTree]]  # update -> the policy (with its observation moments) and its parameters
    discount: float
    source: dict[str, Any]  # for config.json
    behaviour: PyTree = None  # the acting parameters, if they are others
    scaled: bool = False  # whether the critic learned from scaled rewards


def of(options: Variance) -> Subject:
    """The Subject of a command.

    Raises:
      ValueError: for options that contradict each other, or names that don't exist.
    """
    if options.params is None:
        if options.lane or options.at != "last" or options.behaviour is not None:
            raise ValueError("--lane, --at and --behaviour choose from a run folder; give --params RUN with them")
        return _fresh(options)
    if options.init:
        raise ValueError("say where to measure: either --params RUN or --init, not both")
    if options.set:
        raise ValueError("--set is for --init: a run brings its own environment and network")
    run = load.load(options.params)
    labels = common.labels(options.lane, run)
    seed = labels.pop("seed")
    saved = run.lane_updates(seed=seed, **labels)
    chosen = {"last": saved[-1:], "all": saved}.get(options.at)
    if chosen is None:
        chosen = [values.whole("at", text, least=0) for text in options.at.split(",")]
        distinct("at", chosen)
    points = {}
    for update in chosen:
        env, policy, params = run.lane(seed=seed, update=update, **labels)
        points[update] = policy, params
    role = by_role(run.plan.groups[0].algorithm.advantage).get(Role.DISCOUNT)
    known = run.hypers(**labels).advantage[role] if role else 0.99
    name = run.config["env"]
    if options.env_name and options.env_name != name:
        raise ValueError(f"ENV is {options.env_name!r}, but the run in {options.params} is on {name!r}; leave ENV out")
    discount = float(known) if options.discount is None else options.discount
    source = {"env": name, "run": str(options.params), "lane": {"seed": seed, **labels}, "points": chosen}
    acting = None
    config = run.plan.groups[0].config
    scaled = any(group.config.scale_rewards for group in run.plan.groups)
    if options.behaviour is not None:
        if config.normalize_obs:
            raise ValueError("--behaviour: the run normalises observations, each point by its own; leave it out")
        acting = run.lane(seed=seed, update=values.whole("behaviour", options.behaviour, least=0), **labels)[2]
    return Subject(env, points, discount, source, acting, scaled)


def _fresh(options: Variance) -> Subject:
    if not options.env_name:
        raise ValueError("say which environment: ENV by name, or --params RUN")
    known = {**{name: getattr(Config(), name) for name in SHAPES}, **registry.settable(options.env_name)}
    chosen = {}
    for word, text in common.pairs("--set", options.set).items():
        name = word.removeprefix("env.").removeprefix("config.")
        if name not in known:
            raise ValueError(unknown("--set: unknown name", name, known))
        if name in chosen:
            raise ValueError(f"--set {name} was given twice")
        full = f"config.{name}" if name in SHAPES else name
        chosen[name] = values.convert(full, text, known[name])
    shape = {name: chosen.pop(name) for name in SHAPES if name in chosen}
    env, config = envs.make(options.env_name, **chosen), Config(**shape)
    check_config(env, config)
    policy = make(env, config)
    params = policy.init(jax.random.fold_in(jax.random.key(values.seed_number(options.seed)), keys.POLICY))
    discount = 0.99 if options.discount is None else options.discount
    return Subject(env, {0: (policy, params)}, discount, {"env": options.env_name, "set": dict(chosen, **shape)})

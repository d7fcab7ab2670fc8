"""The commands `train` and `sweep`.

A command checks all its options before anything is compiled, and returns a function that acts and gives the exit code.
"""

import functools
from typing import Any

from pgjax.cli.common import Action, execute, join_processes, pairs, stamp, workers_of
from pgjax.cli.options import Sweep, Train
from pgjax.sweeps import user_code, values


def _folder(options: Train) -> str:
    env = options.env_name.replace(":", "-").replace("/", "-") or str(options.env).rpartition(":")[2]
    algorithm = options.algorithm.rpartition(":")[2]
    return f"runs/{algorithm}-{env}-{stamp()}" if options.out is None else options.out


def train(options: Train, words: list[str]) -> Action:
    """Checks the options of `pgjax train`; the function returned carries it out."""
    return _train(options, words, _settings(options), out=_folder(options))


def sweep(options: Sweep, words: list[str]) -> Action:
    """Checks the options of `pgjax sweep`; the function returned carries it out."""
    join_processes(options)
    from pgjax.sweeps import search

    parsed = {name: search.parse(name, text) for name, text in _settings(options).items()}
    settings = search.sample(parsed, values.whole("samples", options.samples), options.search, options.seed)
    if options.distributed and options.out is None:
        raise ValueError("--distributed needs --out, the same for every process")
    if options.log_lanes and options.log is None:
        raise ValueError("--log-lanes needs --log tensorboard or wandb")
    out = _folder(options)
    names = ("memory", "width", "devices", "shard", "checkpoint", "halving", "log", "log_lanes")
    extra = {name: getattr(options, name) for name in names}
    return _train(options, words, settings, workers_of(options), out=out, **extra)


def _train(
    options: Train, words: list[str], settings: Any, on: tuple[str | None, int | None] = (None, None), **extra: Any
) -> Action:
    from pgjax.algorithms.roster import ROSTER
    from pgjax.runs import start

    if options.env_name in ROSTER:
        raise ValueError(f"ENV is {options.env_name!r}, an algorithm: ALGORITHM comes first, as in ppo CartPole-v1")
    specs = {name: spec for name in user_code.OBJECTS if (spec := getattr(options, name)) is not None}
    loaded = user_code.loaded(specs, {name: "algorithm" if name == "algorithm" else f"--{name}" for name in specs})
    objects = {"env": options.env_name, **specs, **loaded}
    job = start.new_job(
        **objects,
        seeds=options.seeds,
        seed=options.seed,
        steps=options.steps,
        updates=options.updates,
        settings=settings,
        snapshots=options.snapshots,
        specs={name: specs[name] for name in loaded},
        command=["pgjax", *words],
        **extra,
    )
    return functools.partial(execute, job, *on, objects=objects)


def _settings(options: Train) -> dict[str, Any]:
    if bool(options.env_name) == (options.env is not None):
        raise ValueError("say which environment: either ENV by name, or --env module:factory")
    names = ("num_envs", "num_steps", "num_epochs", "num_minibatches", "eval_every")
    settings = {f"config.{name}": getattr(options, name) for name in names if getattr(options, name) is not None}
    for name, text in pairs("--set", options.set).items():
        if name in settings:
            raise ValueError(f"--set {name} was given twice")
        settings[name] = text
    return {name: text.split(",") if "," in text else text for name, text in settings.items()}

"""A command as it was typed in; what it does, checked and ready, out: functions that return an exit code.

Nothing is compiled before everything is checked.
"""

import datetime
import functools
import pathlib
import signal
import sys
from collections.abc import Callable
from typing import Any

from pgjax import commands, parsing
from pgjax.packages import importing

Action = Callable[[], int]


def stamp() -> str:
    return datetime.datetime.now().strftime("%Y%m%d-%H%M%S")


def _folder(options: commands.Train) -> str:
    name = options.env_name.replace(":", "-").replace("/", "-") or options.env.rpartition(":")[2]
    return f"runs/{options.algorithm}-{name}-{stamp()}" if options.out is None else options.out


def train(options: commands.Train, words: list[str]) -> Action:
    return _train(options, words, _settings(options), out=_folder(options))


def sweep(options: commands.Sweep, words: list[str]) -> Action:
    _join(options)
    from pgjax import search

    settings = {name: search.parse(name, text) for name, text in _settings(options).items()}
    settings = search.sample(settings, parsing.whole("samples", options.samples), options.search, options.seed)
    if options.distributed and options.out is None:
        raise ValueError("--distributed needs --out, the same for every process")
    if options.log_lanes and options.log is None:
        raise ValueError("--log-lanes needs --log tensorboard or wandb")
    out = _folder(options)
    names = ("memory", "width", "devices", "shard", "checkpoint", "halving", "log", "log_lanes")
    return _train(options, words, settings, out=out, **{name: getattr(options, name) for name in names})


def _train(options: commands.Train, words: list[str], settings: Any, **extra: Any) -> Action:
    from pgjax import driver

    prepared = driver.prepare(
        options.algorithm,
        options.env_name if options.env is None else parsing.load(options.env, "--env"),
        seeds=options.seeds,
        seed=options.seed,
        steps=options.steps,
        updates=options.updates,
        settings=settings,
        loss=None if options.loss is None else parsing.load(options.loss, "--loss"),
        snapshots=options.snapshots,
        specs={"env": options.env, "loss": options.loss},
        command=["pgjax", *words],
        **extra,
    )
    return functools.partial(_execute, prepared)


def resume(options: commands.Resume, words: list[str]) -> Action:
    _join(options)
    from pgjax import resuming

    prepared = resuming.prepare(options.folder, devices=options.devices, log=options.log, edited=options.edited)
    return functools.partial(_execute, prepared)


def extend(options: commands.Extend, words: list[str]) -> Action:
    from pgjax import resuming

    names = ("steps", "updates", "seeds", "log", "edited")
    more = {name: getattr(options, name) for name in names}
    return functools.partial(_execute, resuming.prepare_extension(options.folder, **more))


def replay(options: commands.Replay, words: list[str]) -> Action:
    from pgjax import resuming, runs

    labels = runs.labels(_items(options.lane), runs.read(options.folder, options.edited)[1])
    folder = pathlib.Path(options.folder)
    out = f"{folder.resolve()}-replay-{stamp()}" if options.out is None else options.out
    prepared = resuming.prepare_replay(folder, out=out, edited=options.edited, **labels)

    def act():
        code = _execute(prepared)
        return code or _compare(folder, labels, pathlib.Path(out))

    return act


def render(options: commands.Render, words: list[str]) -> Action:
    from pgjax import runs, video

    path, seed = video.check(options.out, options.fps), parsing.seed_number(options.seed)
    episodes = parsing.whole("episodes", options.episodes, most=video.EPISODES)
    run, update = runs.load(options.folder), parsing.whole("update", options.update, least=0)
    env, policy, params = run.lane(update=update, **runs.labels(_items(options.lane), run))

    def act():
        chosen = {"episodes": episodes, "greedy": options.greedy, "seed": seed, "fps": options.fps}
        made = video.write(path, env, policy, params, title=run.config["env"], **chosen)
        said = f"{made.path}: {made.frames} frames, return {', '.join(f'{x:.5g}' for x in made.returns)}"
        print(*filter(None, [made.note]), said, sep="\n")
        return 0

    return act


def show(options: commands.Show, words: list[str]) -> Action:
    from pgjax import showing

    lines = showing.lines(parsing.place("path", options.folder))

    def act():
        console = _console()
        for line in lines:
            console.print(line, highlight=False, markup=False)
        return 0

    return act


def report(options: commands.Report, words: list[str]) -> Action:
    from pgjax import pages

    return lambda: print(f"written to {pages.write(options.folders, options.out)}") or 0


def listing(options: commands.List, words: list[str]) -> Action:
    from pgjax import listing

    console = _console()
    if options.env_name:
        return lambda: listing.show_environment(console, options.env_name) or 0
    return lambda: listing.show(console) or 0


def variance(options: commands.Variance, words: list[str]) -> Action:
    from pgjax import laboratory

    return laboratory.prepare(options, words)


ACTIONS = {
    "train": (commands.Train, train),
    "sweep": (commands.Sweep, sweep),
    "resume": (commands.Resume, resume),
    "extend": (commands.Extend, extend),
    "replay": (commands.Replay, replay),
    "render": (commands.Render, render),
    "show": (commands.Show, show),
    "report": (commands.Report, report),
    "variance": (commands.Variance, variance),
    "list": (commands.List, listing),
}


def _join(options: commands.Sweep | commands.Resume) -> None:
    """Before anything of JAX is used: it can't be told of other processes later."""
    given = (options.coordinator, options.processes, options.process)
    if not options.distributed:
        if any(x is not None for x in given):
            raise ValueError("--coordinator, --processes and --process are of --distributed; give that too")
        return
    if any(x is None for x in given) and any(x is not None for x in given):
        raise ValueError("give all of --coordinator, --processes and --process, or none where JAX finds them")
    if options.coordinator is not None and not 0 <= options.process < options.processes:
        raise ValueError(f"--process must lie in [0, --processes), got {options.process} of {options.processes}")
    from pgjax import hosts

    hosts.join(*given)


def _items(given: tuple[str, ...]) -> tuple[str, ...]:
    """What was typed as a=1,b=2 or as a=1 b=2."""
    return tuple(item for text in given for item in text.split(","))


def _settings(options: commands.Train) -> dict[str, Any]:
    if bool(options.env_name) == (options.env is not None):
        raise ValueError("say which environment: either ENV by name, or --env module:factory")
    names = ("num_envs", "num_steps", "num_epochs", "num_minibatches")
    settings = {f"config.{name}": getattr(options, name) for name in names if getattr(options, name) is not None}
    for item in options.set:
        name, equals, value = item.partition("=")
        if not equals or not name or not value:
            raise ValueError(f"--set takes name=value, got {item!r}")
        if name in settings:
            raise ValueError(f"--set {name} was given twice")
        settings[name] = value
    return {name: text.split(",") if "," in text else text for name, text in settings.items()}


def _execute(prepared: Any) -> int:
    from pgjax import driver, hosts, report

    result = driver.execute(prepared)
    code = 128 + (result.signal or signal.SIGINT) if result.interrupted else 0
    if not hosts.first():
        return code
    console, s = _console(), result.summary
    if not result.interrupted:
        for line in report.lost(s):
            console.print(line, highlight=False, markup=False)
        console.print(report.table(s))
    console.print(
        f"{s['env_steps']:.3g} environment steps; here trained in {s['train_seconds']:.1f} s, compiled in "
        f"{s['compile_seconds']:.1f} s; written to {result.path}",
        highlight=False,
        markup=False,
    )
    if result.interrupted:
        console.print(f"`pgjax resume {result.path}` goes on", highlight=False, markup=False)
    return code


def _compare(folder: pathlib.Path, labels: dict[str, Any], out: pathlib.Path) -> int:
    """Whether the replayed lane is the run's, in words; code 1 where it isn't."""
    import numpy as np

    from pgjax import results, runs

    if not (folder / "metrics.zarr").is_dir():
        print("the run has no metrics.zarr to compare with")
        return 0
    axes = results.coordinates(labels)
    before, again = runs.metrics(folder), runs.metrics(out).squeeze(list(axes), drop=True)
    if any(value not in before[name].values for name, value in axes.items()):
        print("the run has not trained this lane to its end")
        return 0
    before = before.sel(axes)
    count = min(before.sizes["update"], again.sizes["update"])
    both = [x.isel(update=slice(count)) for x in (before, again)]
    names = [n for n in again.data_vars if n in before and again[n].dims]
    differ = [n for n in names if not np.array_equal(*(x[n] for x in both), equal_nan=True)]
    print(f"not the curve of the run: {', '.join(differ)} differ" if differ else "the curve of the run, bit for bit")
    return 1 if differ else 0


def _console() -> Any:
    with importing("rich"):
        from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 110)

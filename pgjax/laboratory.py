"""What was asked of `pgjax variance` in; a checked measurement, and the folder with its results, out."""

import dataclasses
import datetime
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from pgjax import envs, parsing, policies, results, runs, variance
from pgjax.commands import Variance
from pgjax.plugs import unknown
from pgjax.types import Config, Env, Policy, PyTree
from pgjax.variance import figures, table
from pgjax.variance.grid import ScoreFunction

# The ladder of the field, from the noisiest on; all_action where actions are discrete.
DEFAULT = "full full_optimal to_go leave_one_out time value n_step lambda gae all_action".split()
SHAPES = ("network", "hidden", "activation", "shared")


class Subject(NamedTuple):
    """Whose gradient is measured."""

    env: Env
    policy: Policy
    points: dict[int, PyTree]  # update -> parameters
    discount: float
    source: dict[str, Any]  # for config.json
    behaviour: PyTree = None  # the parameters that act, if others


def prepare(options: Variance, command: list[str]) -> Callable[[], int]:
    """Check everything and make the folder; what is returned measures, writes, prints, and gives the exit code.

    Raises:
      ValueError, TypeError: for bad input, before anything is compiled or written.
    """
    subject = _subject(options)
    estimators = _estimators(options, subject.env)
    first = next(iter(subject.points.values()))
    counts = {name: parsing.whole(name, getattr(options, name)) for name in ("episodes", "pilot", "reference_episodes")}
    batch = tuple(parsing.whole("batch", size) for size in options.batch.split(","))
    if states := parsing.whole("states", options.states, least=0):
        if subject.behaviour is not None:
            raise ValueError("--states splits the variance of estimators on policy; leave --behaviour out")
    bar = _Progress(len(subject.points))
    measure = variance.prepare(
        estimators,
        subject.env,
        subject.policy,
        first,
        discount=subject.discount,
        batch=batch,
        states=states,
        timing=options.timing,
        progress=bar.update,
        **counts,
    )
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    name = subject.source["env"]
    path = pathlib.Path(options.out or f"runs/variance-{name}-{stamp}")
    config = {
        "command": ["pgjax", *command],
        "options": dataclasses.asdict(options),
        "estimators": {
            k: vars(e) if isinstance(e, ScoreFunction) else results.origin(e) for k, e in estimators.items()
        },
        **subject.source,
        **results.machine(),
    }
    results.create(path, config)
    return lambda: _measure(options, subject, estimators, measure, bar, path)


def _measure(options, subject: Subject, estimators, measure, bar, path: pathlib.Path) -> int:
    from rich.console import Console

    reports = {}
    with bar:
        for point, params in subject.points.items():
            bar.start(point)
            reports[point] = measure(params, subject.behaviour, options.seed)
            # Each point is written as soon as it is measured.
            _write(
                path / f"update-{point:08d}" if len(subject.points) > 1 else path, reports[point], estimators, subject
            )
    console = Console(width=160)
    for point, report in reports.items():
        if len(reports) > 1:
            console.print(f"after {point} updates", style="bold")
        console.print(table.table(report.summary))
    if len(reports) > 1:
        figures.along_training(reports, path / "along_training.png", title=subject.source["env"])
        if any("decomposition" in row for r in reports.values() for row in r.summary["estimators"].values()):
            figures.decomposition(reports, path / "decomposition.png", title=subject.source["env"])
    seconds = sum(report.summary["measure_seconds"] for report in reports.values())
    steps = sum(report.summary["env_steps"] for report in reports.values())
    console.print(f"{steps:.3g} environment steps measured in {seconds:.1f} s; written to {path}", highlight=False)
    return 0


def _write(path: pathlib.Path, report: Any, estimators: dict[str, Any], subject: Subject) -> None:
    path.mkdir(exist_ok=True)
    report.data.to_zarr(path / "variance.zarr", mode="w", zarr_format=3, consolidated=False)
    results.write_json(path / "summary.json", report.summary)
    rows = {name: e for name, e in estimators.items() if isinstance(e, ScoreFunction)}
    figures.write_all(report, path, rows, title=subject.source["env"])


def _subject(options: Variance) -> Subject:
    if options.params is None:
        if options.lane or options.at != "last" or options.behaviour is not None:
            raise ValueError("--lane, --at and --behaviour choose from a run folder; give --params RUN with them")
        return _fresh(options)
    if options.init:
        raise ValueError("say where to measure: either --params RUN or --init, not both")
    if options.set:
        raise ValueError("--set is for --init: a run brings its own environment and network")
    run = runs.load(options.params)
    labels = _labels(options.lane, run)
    seed = labels.pop("seed")
    saved = run.lane_updates(**labels)
    chosen = {"last": saved[-1:], "all": saved}.get(options.at)
    if chosen is None:
        chosen = [parsing.whole("at", text, least=0) for text in options.at.split(",")]
    points = {}
    for update in chosen:
        env, policy, points[update] = run.lane(seed=seed, update=update, **labels)
    known = run.hypers(**labels).advantage.get("discount", 0.99)
    name = run.config["env"]
    if options.env_name and options.env_name != name:
        raise ValueError(f"ENV is {options.env_name!r}, but the run in {options.params} is of {name!r}; leave ENV out")
    discount = float(known) if options.discount is None else options.discount
    source = {"env": name, "run": str(options.params), "lane": {"seed": seed, **labels}, "points": chosen}
    acting = None
    if options.behaviour is not None:
        acting = run.lane(seed=seed, update=parsing.whole("behaviour", options.behaviour, least=0), **labels)[2]
    return Subject(env, policy, points, discount, source, acting)


def _labels(given: tuple[str, ...], run: runs.Run) -> dict[str, Any]:
    """Label -> value of one lane; what isn't given is the first of its axis."""
    axes = {**run.axes, "seed": run.seeds}
    labels = {name: values[0] for name, values in axes.items()}
    for item in given:
        name, equals, text = item.partition("=")
        if not equals:
            raise ValueError(f"--lane takes name=value, got {item!r}")
        if name not in axes:
            raise ValueError(unknown("--lane: the run has no axis", name, axes))
        labels[name] = parsing.convert(name, text, axes[name][0])
        if labels[name] not in axes[name]:
            raise ValueError(f"--lane: {name} must be one of {', '.join(map(str, axes[name]))}; got {text}")
    return labels


def _fresh(options: Variance) -> Subject:
    if not options.env_name:
        raise ValueError("say which environment: ENV by name, or --params RUN")
    known = {**{name: getattr(Config(), name) for name in SHAPES}, **envs.adapter.settable(options.env_name)}
    chosen = {}
    for item in options.set:
        name, equals, text = item.partition("=")
        name = name.removeprefix("env.").removeprefix("config.")
        if not equals or not text:
            raise ValueError(f"--set takes name=value, got {item!r}")
        if name not in known:
            raise ValueError(unknown("--set: nothing is called", name, known))
        chosen[name] = parsing.convert(name, text, known[name])
    shape = {name: chosen.pop(name) for name in SHAPES if name in chosen}
    env = envs.make(options.env_name, **chosen)
    policy = policies.make(env, Config(**shape))
    params = policy.init(jax.random.key(options.seed))
    discount = 0.99 if options.discount is None else options.discount
    return Subject(env, policy, {0: params}, discount, {"env": options.env_name, "set": dict(chosen, **shape)})


def _estimators(options: Variance, env: Env) -> dict[str, Any]:
    if options.estimators is not None and options.grid:
        raise ValueError("give --estimators or --grid, not both")
    if options.grid:
        return _grid(options.grid)
    if options.estimators is None:
        discrete = not hasattr(env.action_space, "low")
        return {name: variance.ESTIMATORS[name] for name in DEFAULT if discrete or name != "all_action"}
    chosen = {}
    for word in options.estimators.split(","):
        name = word.rpartition(":")[2]
        if name in chosen:
            raise ValueError(f"--estimators: {name!r} was given twice")
        if ":" in word:
            chosen[name] = parsing.load(word, "--estimators")
        elif word in variance.ESTIMATORS:
            chosen[name] = variance.ESTIMATORS[word]
        else:
            raise ValueError(unknown("no estimator", word, variance.ESTIMATORS))
    return chosen


def _grid(axes: tuple[str, ...]) -> dict[str, Any]:
    import sys

    defaults = {field.name: field.default for field in dataclasses.fields(ScoreFunction)}
    parsed = {}
    for item in axes:
        name, equals, text = item.partition("=")
        if not equals or not text:
            raise ValueError(f"--grid takes axis=value,value, got {item!r}")
        if name not in defaults:
            raise ValueError(unknown("the grid has no axis", name, defaults))
        default = 0.0 if name == "constant" else defaults[name]
        parsed[name] = [parsing.convert(name, word, default) for word in text.split(",")]
    rows, left_out = variance.product(**parsed)
    if left_out:
        print(f"{len(left_out)} combinations mean nothing and are left out, such as {left_out[0]!r}", file=sys.stderr)
    return rows


class _Progress:
    """A bar for each stage of each point on a terminal; a line for each finished stage elsewhere."""

    def __init__(self, points: int):
        self.points, self.tasks, self.bar = points, {}, None

    def __enter__(self) -> "_Progress":
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self.console = Console(stderr=True)
        if self.console.is_terminal:
            columns = (TextColumn("{task.description:24s}"), BarColumn(bar_width=32), TimeElapsedColumn())
            self.bar = Progress(*columns, console=self.console)
            self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.stop()

    def start(self, point: Any) -> None:
        self.label = f"update {point}: " if self.points > 1 else ""
        self.tasks = {}

    def update(self, stage: str, share: float) -> None:
        if self.bar is not None:
            if stage not in self.tasks:
                self.tasks[stage] = self.bar.add_task(self.label + stage, total=1.0)
            self.bar.update(self.tasks[stage], completed=share)
        elif share >= 1:
            self.console.print(f"{self.label}{stage} done", highlight=False)

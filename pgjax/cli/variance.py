"""The command `variance`: checks a measurement, carries it out and writes its folder."""

import dataclasses
import datetime
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from pgjax import variance
from pgjax.cli import variance_policy
from pgjax.cli.common import Action, pairs
from pgjax.cli.options_reading import Variance
from pgjax.dependencies import importing
from pgjax.engine.progress import Stages
from pgjax.errors import unknown
from pgjax.runs import folder, record
from pgjax.sweeps import user_code, values
from pgjax.sweeps.values import distinct
from pgjax.types import Policy
from pgjax.variance.estimators.score_functions import ScoreFunction
from pgjax.variance.findings import figures, table

# The ladder of the field, from the noisiest on; all_action where actions are discrete.
DEFAULT = "full full_optimal to_go leave_one_out time value n_step lambda gae all_action".split()


def measurement(options: Variance, words: list[str]) -> Action:
    """Check everything and make the folder; the function returned measures, writes, prints, and gives the exit code.

    Raises:
      ValueError, TypeError: for bad input, before anything is compiled or written.
    """
    subject = variance_policy.of(options)
    estimators = _estimators(options, subject)
    names, most = ("episodes", "pilot", "reference_episodes"), 2**31 - 1  # keys are numbered so far
    counts = {name: values.whole(name, getattr(options, name), most=most) for name in names}
    batch = tuple(values.whole("batch", size) for size in options.batch.split(","))
    distinct("batch", list(batch))
    seed = values.seed_number(options.seed)
    if states := values.whole("states", options.states, least=0, most=most):
        if subject.behaviour is not None:
            raise ValueError("--states splits the variance of estimators on policy; leave --behaviour out")
    bar = Stages(len(subject.points))
    measures: dict[Policy, Callable[..., Any]] = {}
    for policy, params in subject.points.values():
        # One set of programs for all points, but for policies that normalise observations by their own numbers.
        if policy not in measures:
            measures[policy] = variance.prepare(
                estimators,
                subject.env,
                policy,
                params,
                discount=subject.discount,
                batch=batch,
                states=states,
                timing=options.timing,
                progress=bar.update,
                **counts,
            )
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    name = subject.source["env"]
    path = values.local_place("out", f"runs/variance-{name}-{stamp}" if options.out is None else options.out)
    config = {
        "command": ["pgjax", *words],
        "options": dataclasses.asdict(options),
        "estimators": {k: vars(e) if isinstance(e, ScoreFunction) else record.origin(e) for k, e in estimators.items()},
        **subject.source,
        **record.machine(),
    }
    folder.create(path, config)
    return lambda: _measure(seed, subject, estimators, measures, bar, path)


def _measure(
    seed: int,
    subject: variance_policy.Subject,
    estimators: dict[str, Any],
    measures: Mapping[Policy, Callable[..., Any]],
    bar: Stages,
    path: pathlib.Path,
) -> int:
    with importing("rich"):
        from rich.console import Console

    reports = {}
    with bar:
        for point, (policy, params) in subject.points.items():
            bar.start(point)
            reports[point] = measures[policy](params, subject.behaviour, seed)
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


def _write(path: pathlib.Path, report: Any, estimators: dict[str, Any], subject: variance_policy.Subject) -> None:
    path.mkdir(exist_ok=True)
    report.data.to_zarr(path / "variance.zarr", mode="w", zarr_format=3, consolidated=False)
    folder.write_json(path / "summary.json", report.summary)
    rows = {name: e for name, e in estimators.items() if isinstance(e, ScoreFunction)}
    figures.write_all(report, path, rows, title=subject.source["env"])


def _estimators(options: Variance, subject: variance_policy.Subject) -> dict[str, Any]:
    chosen = _chosen(options, subject)
    off = [name for name, row in chosen.items() if subject.scaled and _bootstraps(row)]
    if off:
        raise ValueError(
            f"the run scales rewards, so its critic's values are in other units: leave out {', '.join(off)}, "
            "which bootstrap from them"
        )
    return chosen


def _bootstraps(row: Any) -> bool:
    return isinstance(row, ScoreFunction) and row.bootstraps


def _chosen(options: Variance, subject: variance_policy.Subject) -> dict[str, Any]:
    if options.estimators is not None and options.grid:
        raise ValueError("give --estimators or --grid, not both")
    if options.grid:
        return _grid(options.grid)
    if options.estimators is None:
        names = [name for name in DEFAULT if name != "all_action" or not hasattr(subject.env.action_space, "low")]
        rows = {name: variance.ESTIMATORS[name] for name in names}
        return {name: row for name, row in rows.items() if not (subject.scaled and _bootstraps(row))}
    chosen = {}
    for word in options.estimators.split(","):
        name = word.rpartition(":")[2]
        if name in chosen:
            raise ValueError(f"--estimators: {name!r} was given twice")
        if ":" in word:
            chosen[name] = user_code.load(word, "--estimators")
        elif word in variance.ESTIMATORS:
            chosen[name] = variance.ESTIMATORS[word]
        else:
            raise ValueError(unknown("no estimator", word, variance.ESTIMATORS))
    return chosen


def _grid(axes: tuple[str, ...]) -> dict[str, Any]:
    defaults = {field.name: field.default for field in dataclasses.fields(ScoreFunction)}
    parsed = {}
    for name, text in pairs("--grid", axes, "axis=value,value").items():
        if name not in defaults:
            raise ValueError(unknown("the grid has no axis", name, defaults))
        default = 0.0 if name == "constant" else defaults[name]
        parsed[name] = [values.convert(name, word, default) for word in text.split(",")]
        distinct(name, parsed[name])
    rows, left_out = variance.product(**parsed)
    if left_out:
        print(f"{len(left_out)} combinations mean nothing and are left out, such as {left_out[0]!r}", file=sys.stderr)
    return rows

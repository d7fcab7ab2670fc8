"""The command `pgjax list`: what there is by name, one line each, and the details of one."""

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any

from pgjax import advantages, envs
from pgjax.algorithms.replacement import NAMED
from pgjax.algorithms.roster import ROSTER, Entry
from pgjax.cli import describe
from pgjax.cli.common import Action, make_console
from pgjax.cli.options_reading import List
from pgjax.config import PARTS
from pgjax.envs import registry
from pgjax.envs.catalogue import ENVIRONMENTS, SUITES
from pgjax.envs.parameters import UNUSED, derived, param_names
from pgjax.errors import unknown
from pgjax.hyperparameters import hyperparameters, plugs
from pgjax.sweeps import environment, user_code
from pgjax.types import Algorithm, Env
from pgjax.variance.estimators.score_functions import ESTIMATORS, ScoreFunction, statement

# Choices of monte_carlo and of the laboratory's grid.
AXES: dict[str, dict[str, Any]] = {"baseline": advantages.BASELINES, "returns": advantages.RETURNS}


def show_list(options: List, words: list[str]) -> Action:
    """Print all names, or the details of one."""
    name, console = options.name, make_console()
    plugs_by_name = [*ROSTER, *ESTIMATORS, *(x for rows in (*NAMED.values(), *AXES.values()) for x in rows)]

    def act() -> int:
        if options.envs:
            for known in registry.names(options.envs):
                console.print(known, highlight=False, markup=False, soft_wrap=True)
        elif not name:
            show(console)
        elif name in plugs_by_name:
            show_plug(console, name)
        elif ":" in name and name.partition(":")[0] not in registry.SUITES:
            show_own(console, name)
        elif rows := _with_option(name):
            show_option(console, name, rows)
        elif difflib.get_close_matches(name, plugs_by_name) and name not in registry.names():
            raise ValueError(unknown("no algorithm or plug", name, plugs_by_name))
        else:
            show_environment(console, name, envs.make(name), registry.settable(name))
        return 0

    return act


def _with_option(name: str) -> dict[tuple[str, str], list[str]]:
    """(Part, default as it is spelled) -> the algorithms that have a hyperparameter of this name there."""
    found: dict[tuple[str, str], list[str]] = {}
    for row, entry in ROSTER.items():
        for part, options in _options(entry).items():
            if name in options:
                found.setdefault((part.partition(",")[0], describe.spelled(options[name])), []).append(row)
    return found


def show_option(console: Any, name: str, rows: dict[tuple[str, str], list[str]]) -> None:
    """Print which part of which algorithms a hyperparameter belongs to, and its defaults."""
    for (part, value), algorithms in rows.items():
        _liner(console)(f"{part}.{name}={value} of {', '.join(algorithms)}")


def show(console: Any) -> None:
    """Print algorithms and environments, one line each, and the names of plugs."""

    def print_all(title: str, rows: dict[str, str]) -> None:
        console.print(title, style="bold")
        wide = max(map(len, rows))
        for name, line in rows.items():
            console.print(f"  {name:<{wide}}  {line}", highlight=False, markup=False, soft_wrap=True)

    print_all(
        "algorithms: `pgjax list ppo` shows options, defaults and paper", {n: r.summary for n, r in ROSTER.items()}
    )
    print_all(
        "plugs, and estimators of `pgjax variance`: `pgjax list gae` shows the options of one",
        {kind: ", ".join(rows) for kind, rows in {**NAMED, **AXES, "estimator": ESTIMATORS}.items()},
    )
    print_all(
        "environments: `pgjax list CartPole-v1` shows their parameters",
        {**ENVIRONMENTS, **{f"{suite}:NAME": SUITES[suite] for suite in registry.SUITES}},
    )
    console.print("Options are set by --set name=value; of name=value,value floats share one program.", highlight=False)
    console.print("A plug is chosen by --advantage td; one of your own by file.py:name, which this shows, too.")
    console.print("`pgjax list clip_eps` shows which algorithms have an option of that name.", highlight=False)


def show_plug(console: Any, name: str) -> None:
    """Print an algorithm, a plug or an estimator of the laboratory: whatever has this name."""

    line = _liner(console)
    if name in ROSTER:
        show_row(console, name, ROSTER[name])
    for kind, rows in NAMED.items():
        if name in rows:
            options = hyperparameters(rows[name])
            line(f"{kind} {name}: {_spelled(options) or 'no options'}")
            if rows[name] is advantages.monte_carlo:
                line(f"  baseline: {', '.join(n for n, row in advantages.BASELINES.items() if row.trains)}")
    for axis, rows in AXES.items():
        if name in rows:
            line(f"{axis}={name}: {rows[name].summary}")
    if name in ESTIMATORS:
        one = ESTIMATORS[name]
        plain = ScoreFunction(batch=one.batch)
        others = {k: v for k, v in vars(one).items() if k != "returns" and v != getattr(plain, k)}
        unbiased, why = statement(one)
        line(f"estimator {name}: returns={one.returns} {_spelled(others)}".rstrip())
        line(f"  {'unbiased' if unbiased else 'biased'}: {why}")


def show_row(console: Any, name: str, row: Entry) -> None:
    """Print the options of an algorithm."""
    line = _liner(console)
    console.print(f"{name}: {row.summary}".removesuffix(": "), style="bold", highlight=False, markup=False)
    if row.paper:
        line(row.paper)
    for part, options in _options(row).items():
        line(f"{part}: {_spelled(options) or 'none'}")
    line(f"steps: {row.steps:,} of the environment, where neither --steps nor --updates is given")


def show_own(console: Any, spec: str) -> None:
    """Print what an object of the user's is, as module:name or file.py:name, and its options.

    Raises:
      ValueError, TypeError: for what can't be imported, and for what is no part of a run.
    """
    thing, name = user_code.load(spec, "list"), spec.rpartition(":")[2]
    kind = describe.kind_of(thing, spec)
    if kind == "algorithm":
        show_row(console, f"algorithm {name}", Entry(thing) if isinstance(thing, Algorithm) else thing)
        return
    line = _liner(console)
    line(f"{kind} {name}: {describe.summary(thing)}".removesuffix(": "))
    if kind == "environment":
        env = environment.made(thing, {})
        show_environment(console, name, env, dict(param_names(env.params)))
    elif kind != "policy":
        for text in describe.options(kind, thing):
            line(f"  {text}")


def show_environment(console: Any, name: str, env: Env, settable: dict[str, Any]) -> None:
    """Print the parameters of one environment, what it shows and takes, and what surprises in it."""
    if name in ENVIRONMENTS:
        console.print(f"{name}: {ENVIRONMENTS[name]}", style="bold", highlight=False)
    computed, unused = derived(env.params), UNUSED.get(name, ())
    console.print(f"{name}: observations {env.observation_space!r}, actions {env.action_space!r}", highlight=False)
    free = {key: value for key, value in settable.items() if key not in computed and key not in unused}
    console.print("  ".join(f"env.{key}={value}" for key, value in free.items()), highlight=False)
    for key, found in computed.items():
        console.print(f"env.{key} is computed as {found.formula}, and can't be set.", highlight=False)
    for key in unused:
        console.print(f"env.{key} can't be set: nothing depends on it, in gymnax.", highlight=False)
    for line in registry.notes(name):
        console.print(line, highlight=False, markup=False)


def _options(row: Entry) -> dict[str, dict[str, Any]]:
    """Part -> name -> default of all that has a meaning there."""
    found = {part: hyperparameters(plug) for part, plug in plugs(row.algorithm).items()}
    own = {k: v for k, v in vars(row.config).items() if k not in row.unused}
    configs = {
        f"config, {part.__name__.lower()}": {f.name: own[f.name] for f in dataclasses.fields(part) if f.name in own}
        for part in PARTS
    }
    return {**found, **{part: options for part, options in configs.items() if options}}


def _liner(console: Any) -> Callable[[str], None]:
    def line(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    return line


def _spelled(values: dict[str, Any]) -> str:
    return " ".join(f"{name}={describe.spelled(value)}" for name, value in values.items())

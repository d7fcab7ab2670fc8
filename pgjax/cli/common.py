"""Parts that several commands share: the console, the summary at the end, and lanes by name."""

import datetime
import functools
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

from pgjax import analysis, executors
from pgjax.cli.options import Resume, Sweep
from pgjax.dependencies import importing
from pgjax.engine import processes
from pgjax.errors import unknown
from pgjax.runs import folder
from pgjax.runs.drive import drive
from pgjax.runs.execute import Job
from pgjax.runs.execute import execute as run_here
from pgjax.runs.run import Run
from pgjax.sweeps import values as sweeps_values

Action = Callable[[], int]


def stamp() -> str:
    """The time, for the name of a folder."""
    return datetime.datetime.now().strftime("%Y%m%d-%H%M%S")


def join_processes(options: Sweep | Resume) -> None:
    """Join the processes of a distributed run, before any other use of JAX, which can't join them later."""
    coordinator, count, index = given = (options.coordinator, options.processes, options.process)
    if not options.distributed:
        if any(x is not None for x in given):
            raise ValueError("--coordinator, --processes and --process need --distributed")
        return
    if any(x is None for x in given) and any(x is not None for x in given):
        raise ValueError("give all of --coordinator, --processes and --process, or none where JAX finds them")
    if count is not None and index is not None and not 0 <= index < count:
        raise ValueError(f"--process must lie in [0, --processes), got {index} of {count}")
    processes.join(coordinator, count, index)


def workers_of(options: Sweep | Resume) -> tuple[str | None, int | None]:
    """The options --on and --workers, checked."""
    if options.on is None:
        if options.workers is not None:
            raise ValueError(f"--workers {options.workers} needs --on, which says of what kind they are")
        return None, None
    if options.distributed:
        raise ValueError("give --on, whose workers train, or --distributed, which trains here, not both")
    executors.check(options.on)
    return options.on, sweeps_values.whole("workers", options.workers)


def items(given: tuple[str, ...]) -> tuple[str, ...]:
    """The items of words like a=1,b=2 or a=1 b=2."""
    return tuple(item for text in given for item in text.split(","))


def pairs(option: str, given: Iterable[str], form: str = "name=value") -> dict[str, str]:
    """Name -> text of the words name=value after `option`; a ValueError for another form, or a name twice."""
    found: dict[str, str] = {}
    for item in given:
        name, equals, text = item.partition("=")
        if not equals or not name or not text:
            raise ValueError(f"{option} takes {form}, got {item!r}")
        if name in found:
            raise ValueError(f"{option} {name} was given twice")
        found[name] = text
    return found


def execute(job: Job, on: str | None = None, workers: int | None = None, objects: dict[str, Any] | None = None) -> int:
    """Carry a job out, here or on workers, and print its final returns; the exit code.

    Args:
      objects: the algorithm, env, policy and plugs, of which workers are sent those that they can't import.
    """
    if on is None:
        result = run_here(job)
    else:
        assert job.path is not None  # the command line always has a folder
        try:
            engine = executors.connect(on, workers, job.path)
        except ValueError:
            folder.discard(job.made)
            raise
        result = drive(job, engine, objects=objects)
    return told(result)


def told(result: Run) -> int:
    """Print what a run has come to; the exit code: 1 where chunks failed, 128 and the signal's number after a stop."""
    s, failed = result.summary, result.summary["failed_chunks"]
    stopped = 128 + (result.signal or signal.SIGINT) if result.interrupted and (result.signal or not failed) else 0
    code = stopped or int(bool(failed))
    if not processes.first():
        return code
    console = make_console()
    say = functools.partial(console.print, highlight=False, markup=False)
    if not result.interrupted:
        for line in analysis.lost(s):
            say(line)
        console.print(analysis.table(s))
    say(
        f"{s['env_steps']:.3g} environment steps; here trained in {s['train_seconds']:.1f} s, compiled in "
        f"{s['compile_seconds']:.1f} s; written to {result.path}",
        soft_wrap=True,
    )
    for line in failed.values():
        say(line, soft_wrap=True)
    if result.interrupted:
        say(f"`pgjax resume {result.path}` goes on", soft_wrap=True)
    return code


def make_console() -> Any:
    """The console of rich on stdout."""
    with importing("rich"):
        from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 110)


def labels(given: tuple[str, ...], run: Run) -> dict[str, Any]:
    """Label -> value of one lane, from words name=value; of an axis that isn't given, the first value."""
    axes = {**run.axes, "seed": run.seeds}
    found = {name: values[0] for name, values in axes.items()}
    for name, text in pairs("--lane", given).items():
        if name not in axes:
            raise ValueError(unknown("--lane: the run has no axis", name, axes))
        found[name] = sweeps_values.convert(name, text, axes[name][0])
        if found[name] not in axes[name]:
            raise ValueError(f"--lane: {name} must be one of {', '.join(map(str, axes[name]))}; got {text}")
    return found

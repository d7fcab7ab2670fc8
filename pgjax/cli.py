"""The command line: `pgjax train | list`."""

import contextlib
import dataclasses
import datetime
import io
import os
import pathlib
import sys
from typing import Annotated

import tyro
from tyro.conf import Positional, arg


@dataclasses.dataclass
class Train:
    """Train an algorithm on an environment over many seeds, and write a run folder.

    A list of values, as in --num-envs 8,32 or --set learning_rate=1e-3,3e-4, makes a grid.
    """

    algorithm: Annotated[Positional[str], arg(metavar="ALGORITHM")]
    """A name from `pgjax list`."""
    env_name: Annotated[Positional[str], arg(metavar="ENV")] = ""
    """A name from `pgjax list`; left out with --env."""
    seeds: int = 1
    """How many seeds, each a lane of the compiled program."""
    seed: int = 0
    """The first seed."""
    steps: str | None = None
    """Environment steps of each lane. With whole episodes, each counts as long as the time limit."""
    updates: str | None = None
    """Updates of each lane, instead of --steps."""
    num_envs: str | None = None
    """Environments of each lane."""
    num_steps: str | None = None
    """Steps of one rollout."""
    num_epochs: str | None = None
    """Passes over each batch."""
    num_minibatches: str | None = None
    """Gradient steps in each pass."""
    set: tuple[str, ...] = ()
    """Settings, each name=value or name=value,value: see `pgjax list`."""
    loss: str | None = None
    """A loss of your own in place of the policy loss: module:function or file.py:function."""
    env: str | None = None
    """An environment of your own: module:factory or file.py:factory."""
    snapshots: int = 0
    """Save the parameters this often during training, first before it, besides at its end."""
    out: str | None = None
    """The run folder; runs/<algorithm>-<env>-<time> by default."""


@dataclasses.dataclass
class List:
    """Show algorithms, losses, estimators and environments, with their hyperparameters and defaults."""

    env_name: Annotated[Positional[str], arg(metavar="ENV")] = ""
    """Show the parameters of this environment."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code. Bad input is one line and code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    typed, words = words, _one_set(words)
    commands = {"train": Train, "list": List}
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            command = tyro.extras.subcommand_cli_from_dict(
                {name: _identity(kind) for name, kind in commands.items()},
                prog="pgjax",
                description="Policy gradients in JAX.",
                args=words,
            )
    except SystemExit as stop:
        if stop.code:
            print(f"pgjax: {_one_line(complaint.getvalue())}; see pgjax {' '.join(words[:1])} --help", file=sys.stderr)
        return int(stop.code or 0)
    try:
        if isinstance(command, List):
            return _list(command.env_name)
        prepared = _prepare(command, typed)
    except (ValueError, TypeError) as error:
        if os.environ.get("PGJAX_TRACEBACK"):
            raise
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        print(f"pgjax: {message}", file=sys.stderr)
        return 2
    return _execute(prepared)


def _one_set(words: list[str]) -> list[str]:
    """Several --set as one: an option that takes a list would keep the last alone."""
    rest, settings = [], []
    inside = False
    for word in words:
        inside = word == "--set" or (inside and not word.startswith("--"))
        if not inside:
            rest.append(word)
        elif word != "--set":
            settings.append(word)
    return [*rest, "--set", *settings] if settings else rest


def _one_line(box: str) -> str:
    """What tyro's box of an error says: the text between its first two rules."""
    said, rules = [], 0
    for line in box.splitlines():
        text = line.strip("│╭╮╰╯|+ ")
        if "───" in text or "---" in text:
            rules += 1
            if rules == 2:
                break
            said.clear()
        elif text:
            said.append(text)
    return " ".join(said) or "the command line can't be read"


def _identity(kind):
    def command(options):
        return options

    command.__annotations__ = {"options": tyro.conf.OmitArgPrefixes[kind], "return": kind}
    command.__doc__ = kind.__doc__
    return command


def _prepare(options: Train, words: list[str]):
    if bool(options.env_name) == bool(options.env):
        raise ValueError("say which environment: either ENV by name, or --env module:factory")
    settings = {f"config.{k}": v for k, v in _config(options).items()}
    for item in options.set:
        name, equals, value = item.partition("=")
        if not equals or not name or not value:
            raise ValueError(f"--set takes name=value, got {item!r}")
        if name in settings:
            raise ValueError(f"--set {name} was given twice")
        settings[name] = _values(value)

    import jax

    # Written once, reused by every later run of the same program.
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "pgjax"
    jax.config.update("jax_compilation_cache_dir", str(cache))

    from pgjax import driver
    from pgjax.parsing import load

    name = options.env_name or options.env.rpartition(":")[2]
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return driver.prepare(
        options.algorithm,
        load(options.env, "--env") if options.env else options.env_name,
        seeds=options.seeds,
        seed=options.seed,
        steps=options.steps,
        updates=options.updates,
        settings=settings,
        loss=load(options.loss, "--loss") if options.loss else None,
        snapshots=options.snapshots,
        specs={"env": options.env, "loss": options.loss},
        out=options.out or f"runs/{options.algorithm}-{name}-{stamp}",
        command=["pgjax", *words],
    )


def _execute(prepared) -> int:
    from rich.console import Console

    from pgjax import driver, report

    result = driver.execute(prepared)
    console = Console(width=None if sys.stdout.isatty() else 110)
    if not result.interrupted:
        console.print(report.table(result.summary))
    s = result.summary
    console.print(
        f"{s['env_steps']:.3g} environment steps in {s['train_seconds']:.1f} s, compiled in "
        f"{s['compile_seconds']:.1f} s; written to {result.path}",
        highlight=False,
    )
    return 130 if result.interrupted else 0


def _config(options: Train) -> dict[str, list[str]]:
    names = ("num_envs", "num_steps", "num_epochs", "num_minibatches")
    return {name: _values(getattr(options, name)) for name in names if getattr(options, name) is not None}


def _values(text: str) -> str | list[str]:
    """A value, or the list of those between commas."""
    return text.split(",") if "," in text else text


def _list(env: str) -> int:
    from rich.console import Console

    from pgjax import listing

    console = Console(width=None if sys.stdout.isatty() else 110)
    listing.show_environment(console, env) if env else listing.show(console)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The command line: `pgjax train | variance | list`."""

import contextlib
import datetime
import io
import os
import pathlib
import sys

import tyro

from pgjax.commands import List, Train, Variance


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code. Bad input is one line and code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    typed, words = words, _one_set(words)
    commands = {"train": Train, "variance": Variance, "list": List}
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
        if isinstance(command, Variance):
            _keep_compiled()
            from pgjax import laboratory

            prepared = laboratory.prepare(command, typed)
        else:
            prepared = _prepare(command, typed)
    except (ValueError, TypeError) as error:
        if os.environ.get("PGJAX_TRACEBACK"):
            raise
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        print(f"pgjax: {message}", file=sys.stderr)
        return 2
    return prepared() if isinstance(command, Variance) else _execute(prepared)


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

    _keep_compiled()
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


def _keep_compiled() -> None:
    """Programs are written once, and reused by every later run of the same program."""
    import jax

    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "pgjax"
    jax.config.update("jax_compilation_cache_dir", str(cache))


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

"""The command line: reads the words, runs one command, and returns its exit code."""

import contextlib
import dataclasses
import difflib
import importlib
import io
import os
import pathlib
import signal
import sys
from collections.abc import Callable
from typing import Any

from pgjax import dependencies
from pgjax.errors import digits


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code.

    Bad input, or a package that is missing or broken, prints one line and returns 2; a full disk prints one line and
    returns 1. A run that a signal stopped writes its results so far and returns 128 + the signal's number, as a shell
    does: 130 for Ctrl-C, 143 for SIGTERM.
    """
    try:
        return _main(arguments)
    except ImportError as error:  # of a package that pgjax imports as it starts, or deep in another one
        return _say(dependencies.PackageError(dependencies.explained(error, dependencies.of(error))), 2)


def _main(arguments: list[str] | None) -> int:
    # Imported here, so that a missing package prints a line and no traceback.
    with dependencies.importing("tyro"):
        import tyro

        from pgjax.cli.options import COMMANDS, Work

    words = list(sys.argv[1:] if arguments is None else arguments)
    typed, complaint = words, io.StringIO()
    try:
        words = _one_set(words)
        _once(words)
    except ValueError as error:
        return _say(error, 2)
    try:
        with contextlib.redirect_stderr(complaint):
            command = tyro.extras.subcommand_cli_from_dict(
                {name: _identity(kind, tyro.conf.OmitArgPrefixes) for name, (kind, _) in COMMANDS.items()},
                prog="pgjax",
                description="Policy gradients in JAX.",
                args=words,
            )
    except SystemExit as stop:
        if stop.code:
            known = {name: [field.name for field in dataclasses.fields(kind)] for name, (kind, _) in COMMANDS.items()}
            said = _unknown_option(words, known) or _one_line(complaint.getvalue())
            print(f"pgjax: {said}; see pgjax {' '.join(words[:1])} --help", file=sys.stderr)
        return int(stop.code or 0)
    module, _, name = dict(COMMANDS.values())[type(command)].partition(".")
    if not isinstance(command, Work):  # whose programs are kept with the run
        _keep_compiled()
    if getattr(command, "on", None):
        _leave_devices()
    elif getattr(command, "shard", "lanes") == "lanes":
        from pgjax.engine import machine

        machine.use_every_core(getattr(command, "folder", None) or getattr(command, "out", None))
    try:
        action = getattr(importlib.import_module(f"pgjax.cli.{module}"), name)
        return action(command, typed)()
    except (ValueError, TypeError) as error:
        return _say(error, 2)
    except KeyboardInterrupt:
        print("pgjax: stopped at once by Ctrl-C", file=sys.stderr)
        return 128 + signal.SIGINT
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return _say(
            MemoryError("the memory isn't enough; give fewer environments, steps or lanes, or less --memory"), 1
        )
    except OSError as error:
        # Files are replaced whole, so the folder is still sound.
        where = f" ({error.filename})" if error.filename else ""
        return _say(
            OSError(f"{error.strerror or error}{where}; the files written so far are sound, pgjax resume goes on"), 1
        )


def _say(error: Exception, code: int) -> int:
    if os.environ.get("PGJAX_TRACEBACK"):
        raise error
    message = str(error).splitlines()[0] if str(error) else type(error).__name__
    print(f"pgjax: {message}", file=sys.stderr)
    return code


def _one_set(words: list[str]) -> list[str]:
    """Join several --set into one, since tyro would keep only the last. `--set=a=1` is `--set a=1`."""
    rest, settings = [], []
    inside = False
    for word in words:
        if word.startswith("--set="):
            settings.append(word.removeprefix("--set="))
            inside = True
            continue
        inside = word == "--set" or (inside and not word.startswith("--"))
        if not inside:
            rest.append(word)
        elif word != "--set":
            settings.append(word)
    return [*rest, "--set", *settings] if settings else rest


def _once(words: list[str]) -> None:
    """ValueError for an option given twice, of which only the last would count, and for digits other than 0 to 9."""
    seen, numbers, option = set(), [], "arguments"
    for word in words:
        if word.startswith("--"):
            option, _, word = word.partition("=")
            name = option.replace("_", "-").replace("--no-", "--")
            if name in seen:
                raise ValueError(f"{option} was given twice; give it once")
            seen.add(name)
        with contextlib.suppress(ValueError):  # a name or a folder, which may be written in any way
            float(word)
            numbers.append((option, word))
    for option, word in numbers:
        digits(option, word)


def _unknown_option(words: list[str], known: dict[str, list[str]]) -> str:
    """A line for the first option that the command doesn't have, with the nearest that it has; else nothing.

    Args:
      known: command -> the names of its options, with underscores.
    """
    if not words or words[0] not in known:
        return ""
    has = ["help", *known[words[0]]]
    for word in words[1:]:
        name = word.removeprefix("--").removeprefix("no-").partition("=")[0].replace("-", "_")
        if word.startswith("--") and name not in has:
            near = difflib.get_close_matches(name, has, n=1)
            hyper = f"a hyperparameter is set by --set {name}=VALUE" if "set" in has else "leave it out"
            hint = f"did you mean '--{near[0].replace('_', '-')}'?" if near else hyper
            return f"no option '{word.partition('=')[0]}'; {hint}"
    return ""


def _one_line(box: str) -> str:
    """The message in tyro's box of an error: the text between its first two rules."""
    said: list[str] = []
    rules = 0
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


def _identity(kind: type, plain: Any) -> Callable[[Any], Any]:
    """A command for tyro: a function that returns its options, of the class `kind`."""

    def command(options):
        return options

    command.__annotations__ = {"options": plain[kind], "return": kind}
    command.__doc__ = kind.__doc__
    return command


def _keep_compiled() -> None:
    """Keep compiled programs on the disk, so that later runs of the same program reuse them."""
    import jax

    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "pgjax"
    jax.config.update("jax_compilation_cache_dir", str(cache))


def _leave_devices() -> None:
    """Plan on the CPU, since the workers of this machine may need the accelerator."""
    import jax

    jax.config.update("jax_platforms", "cpu")

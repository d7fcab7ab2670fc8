"""Messages of bad input: the nearest known name, and the argument that a value was given for."""

import contextlib
import difflib
import pathlib
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

# Where code lies that isn't the user's: nowhere on a disk, in this package or the interpreter; and what is installed.
NOT_THEIRS = ("<", str(pathlib.Path(__file__).parent), sysconfig.get_path("stdlib"))
INSTALLED = ("site-packages", "dist-packages")


class ChunkError(RuntimeError):
    """Some chunks of a run failed three times each; the rest of the run is trained and written."""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """'<what> <name>', with the nearest known name, or all of them where none is near; of a file, what was left out."""
    if name.endswith(".py"):
        return f"{what} {name!r}; of a file of your own say which object, as {name}:NAME"
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known) or '(none)'}"
    return f"{what} {name!r}; {hint}"


def told(thing: Any) -> str:
    """What a value is, in a few words: "an array [4, 2]", "(an array [], a list)", "a dict", "None"."""
    if hasattr(thing, "shape") and hasattr(thing, "dtype"):
        return f"an array {list(thing.shape)}"
    if type(thing) is tuple:
        return f"({', '.join(map(told, thing))})"
    kind = type(thing).__name__
    return "None" if thing is None else f"a{'n' * (kind[0] in 'aeiouAEIOU')} {kind}"


def digits(name: str, text: Any) -> Any:
    """The text itself; ValueError for a number in other digits than 0 to 9, such as full-width ones."""
    if isinstance(text, str) and not text.isascii() and any(c.isdigit() for c in text):
        raise ValueError(f"{name}: numbers are written in the digits 0 to 9, got {text!r}")
    return text


@contextlib.contextmanager
def named(what: str) -> Iterator[None]:
    """What a function of the user's raises, as one line that says where: the innermost line of the user's own code."""
    try:
        yield
    except Exception as error:
        where, plain = _place(error), isinstance(error, (ValueError, TypeError))  # these name the argument themselves
        if isinstance(error, ImportError) or (plain and not where):  # a PackageError names its package
            raise
        first, *rest = str(error).splitlines() or [""]
        said = first if plain else f"{what} raised {type(error).__name__}: {first}"
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind("\n".join([said + where, *rest])) from error


def _place(error: Exception) -> str:
    """ " (mine.py, line 7)", or nothing where no code of the user's was at work."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [(pathlib.Path(x.filename), x.lineno) for x in frames if not x.filename.startswith(NOT_THEIRS)]
    own = [(file.name, line) for file, line in places if not set(INSTALLED) & set(file.parts)]
    return f" ({own[-1][0]}, line {own[-1][1]})" if own else ""

"""Messages of bad input: the nearest known name, and the argument that a value was given for."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from typing import Any


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """'<what> <name>', with the nearest known name, or all of them where none is near."""
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
    """What a function of the user's raises, as one line that says where."""
    try:
        yield
    except (ValueError, TypeError):  # a PackageError is a ValueError
        raise
    except Exception as error:
        raise ValueError(f"{what} raised {type(error).__name__}: {error}") from error

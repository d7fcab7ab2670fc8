"""What the user typed or passed in; values of the right type, or one clear line, out."""

import contextlib
import operator
import pathlib
from typing import Any, cast, overload

import numpy as np

from pgjax.dependencies import importing
from pgjax.errors import digits
from pgjax.hyperparameters import MOST, Range, within
from pgjax.numerics import keys

EVERY = Range()
LISTED = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")  # whose clients keep listings


def place(name: str, path: str | pathlib.Path) -> pathlib.Path:
    """The path of a file or a folder, if it can be one: of an address, such as s3://bucket/run, a `upath.UPath`.

    Raises:
      ValueError: in one line, for what is no path, or an address of a kind that isn't known.
      PackageError: where the package that reads and writes there is missing.
    """
    text = str(path)
    if not text or "\0" in text:
        raise ValueError(f"{name} must be a path without a NUL, and not empty; got {text!r}")
    kind, colon, rest = text.partition(":/")
    if not colon or len(kind) < 2 or not kind.isalnum():
        return pathlib.Path(path)
    if not rest.startswith("/"):  # as of pathlib.Path("s3://bucket/run")
        raise ValueError(f"{name}: {text!r} lacks a slash; give an address as text, such as {kind}://{rest}")
    return place(name, rest[1:]) if kind in ("file", "local") else _address(name, path, text, kind)


def local_place(name: str, path: str | pathlib.Path) -> pathlib.Path:
    """As `place`, and ValueError for an address, for what can be written to a disk alone."""
    found = place(name, path)
    if not isinstance(found, pathlib.Path):
        raise ValueError(f"{name} must be a path on this machine, got {str(path)!r}; write there, and copy it")
    return found


def _address(name: str, path: Any, text: str, kind: str) -> pathlib.Path:
    """The path of an address. A UPath has a Path's methods, and is one to those that read types."""
    with importing("upath", "remote", f"{name}: {text!r}"):
        import upath
    if kind in ("s3", "s3a"):
        with importing("s3fs", "remote", f"{name}: {text!r}"):
            import s3fs  # noqa: F401
    # Other processes write there too: a listing is never kept.
    options = {**getattr(path, "storage_options", {}), **({"use_listings_cache": False} if kind in LISTED else {})}
    try:
        found = upath.UPath(f"{kind}://{text.partition('://')[2].rstrip('/')}", **options)
        _ = found.fs
        if not found.name:
            raise ValueError(f"it names no folder; give one, such as {kind}://bucket/run")
    except Exception as error:  # whatever a server's client raises as it starts
        said = " ".join(str(error).split())
        raise ValueError(f"{name}: {text!r} is an address that can't be used: {said}") from error
    return cast(pathlib.Path, found)


def convert(full: str, value: Any, default: Any, allowed: Range | None = EVERY) -> Any:
    """The value in the type of the default; text from the command line is parsed.

    Args:
      allowed: where it must lie; None checks nothing.
    """
    wanted = type(default)
    if isinstance(value, np.generic):
        value = value.item()
    if wanted in (int, float, tuple):
        digits(full, value)
    try:
        if wanted is bool and isinstance(value, str):
            return {"true": True, "false": False}[value.lower()]
        if wanted is tuple:
            parts = value.split("x") if isinstance(value, str) else value
            value = tuple(int(x) for x in parts)
        if wanted is bool and not isinstance(value, bool):
            raise ValueError
        if wanted in (int, float):
            number, given = wanted(value), value
            if isinstance(value, bool) or number != number or (wanted is int and number != float(value)):
                raise ValueError
        if wanted is str and not isinstance(value, str):
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):
        kind = {
            bool: "true or false",
            tuple: "such as 64x64 (in Python a tuple; a list is a grid)",
            int: f"a whole number, like its default {default}",
            float: "a number",
        }.get(wanted, wanted.__name__)
        raise ValueError(f"{full} must be {kind}, got {value!r}") from None
    if allowed and wanted is tuple:
        for x in value:
            within(full, x, x, allowed)
    if wanted not in (int, float):
        return value
    if allowed:
        within(full, number, given, allowed)
    return number


@overload
def whole(name: str, value: str | float, least: int = 1, most: int | None = None) -> int: ...
@overload
def whole(name: str, value: None, least: int = 1, most: int | None = None) -> None: ...
@overload
def whole(name: str, value: str | float | None, least: int = 1, most: int | None = None) -> int | None: ...
def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int | None:
    """A count of `least` or more; 1e6 will do."""
    if value is None:
        return None
    try:
        number = int(float(digits(name, value)))
        if number != float(value) or isinstance(value, bool):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None
    if not least <= number <= (most := 2**53 if most is None else most):
        bound = f"{least} or more" if number < least else f"{most} or less"
        raise ValueError(f"{name} must be {bound}, got {value}")
    return number


def seed_number(seed: Any) -> int:
    """One seed of `jax.random.key`."""
    return whole("seed", seed, least=0, most=2**32 - 1)


def checked_updates(updates: int) -> int:
    """The number of updates of a lane, if there are keys for so many."""
    if updates > keys.UPDATES:
        raise ValueError(f"updates must be {keys.UPDATES} or less, got {updates}")
    return updates


def seed_numbers(seeds: Any, seed: int) -> list[int]:
    """The seeds: `seeds` of them from `seed` on, or those of a list.

    Raises:
      ValueError, TypeError: for what is no list of different whole numbers below 2**32.
    """
    if isinstance(seeds, (str, float, bool)):
        raise TypeError(f"seeds must be how many, or a list of them, got {seeds!r}")
    try:
        if np.ndim(seeds) == 0:
            first, count = operator.index(seed), operator.index(seeds)
            if first + count > 2**32:
                raise ValueError(f"seeds must lie in [0, 2**32), got {first} to {first + count - 1}")
            numbers = list(range(first, first + bounded(f"seeds={count}", count)))
        else:
            numbers = [operator.index(number) for number in seeds]
    except TypeError:
        raise TypeError(f"seeds must be whole numbers, got seeds={seeds!r}, seed={seed!r}") from None
    if np.ndim(seeds) and seed:
        raise ValueError("give seed, the first one, or a list of seeds, not both")
    if not numbers:
        raise ValueError(f"seeds must be 1 or more, got {seeds}")
    if min(numbers) < 0 or max(numbers) >= 2**32:
        raise ValueError(f"seeds must lie in [0, 2**32), got {min(numbers)} to {max(numbers)}")
    if len(set(numbers)) < len(numbers):
        raise ValueError("seeds has the same seed twice")
    return numbers


LANES = 10**6  # of one run: every one is an entry of lists on the host


def distinct(full: str, values: list[Any], single: bool = True) -> None:
    """ValueError where a list has a value twice, however it was spelled; `single`: as float32, as lanes have it."""

    def key(x):
        if isinstance(x, str):
            with contextlib.suppress(ValueError):
                return key(float(x))
        return float(np.float32(x)) if single and isinstance(x, float) and abs(x) <= MOST else x

    if len({key(x) for x in values}) < len(values):
        raise ValueError(f"{full} has the same value twice: {', '.join(map(str, values))}")


def bounded(what: str, count: int) -> int:
    """The count, if one run can have so many lanes; asked before any list of them is made."""
    if count > LANES:
        raise ValueError(f"{what} is more than the {LANES:,} lanes that one run may have; split it into several runs")
    return count

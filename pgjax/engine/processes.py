"""Several processes that share one run: the number of this one, work done once for all, and waiting for each other."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax

T = TypeVar("T")


def join(coordinator: str | None = None, count: int | None = None, index: int | None = None) -> None:
    """Join the other processes, before any other use of JAX; give None for all where JAX finds them (SLURM, cloud TPU).

    Raises:
      ValueError: where they can't be found.
    """
    try:
        jax.distributed.initialize(coordinator, count, index)
    except Exception as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"distributed: the other processes can't be found: {message}; "
            "give coordinator=HOST:PORT, processes and process"
        ) from error


def count() -> int:
    """How many processes share the run."""
    return jax.process_count()


def index() -> int:
    """The number of this process, from 0."""
    return jax.process_index()


def first() -> bool:
    """Whether this is process 0, which writes the files of the whole run."""
    return index() == 0


def once(name: str, function: Callable[[], T]) -> T | None:
    """Call `function` on process 0 alone, while the others wait; its result there, None on the others.

    Args:
      name: what the function does, for the message on the other processes.

    Raises:
      the function's own error on process 0, and then ValueError on the others, which would wait for ever.
    """
    found, error = None, None
    if first():
        try:
            found = function()
        except Exception as caught:
            error = caught
    failed = any_of(error is not None)
    if error is not None:
        raise error
    if failed:
        raise ValueError(f"{name} failed on process 0; see its output")
    return found


def any_of(here: bool) -> bool:
    """Whether `here` is true on any process; all of them wait for each other."""
    if count() == 1:
        return here
    import numpy as np
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.array(here))))


def devices(count: int | None) -> list[Any]:
    """The first `count` devices of this process, or all of them."""
    found = jax.local_devices()
    if count is not None and not 1 <= count <= len(found):
        raise ValueError(f"devices must lie in [1, {len(found)}], what this process has; got {count}")
    return found[:count]

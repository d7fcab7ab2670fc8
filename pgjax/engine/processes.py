"""Processes that JAX has joined, as it must those of the hosts of one TPU; each uses its own devices."""

from typing import Any

import jax


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


def index() -> int:
    """The number of this process, from 0."""
    return jax.process_index()


def first() -> bool:
    """Whether this is process 0, which prints what the run has come to."""
    return index() == 0


def devices(count: int | None) -> list[Any]:
    """The first `count` devices of this process, or all of them."""
    found = jax.local_devices()
    if count is not None and not 1 <= count <= len(found):
        raise ValueError(f"devices must lie in [1, {len(found)}], what this process has; got {count}")
    return found[:count]

"""What an engine is: it runs calls of functions somewhere, and says when each has ended."""

import concurrent.futures
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol


class Task(Protocol):
    """A call that an engine runs."""

    def done(self) -> bool:
        """Whether it has ended, well or not."""

    def exception(self) -> BaseException | None:
        """Why it failed, once it is done; None where it didn't. A worker's death is a failure like any other."""


class Engine(NamedTuple):
    """A place that runs calls.

    Attributes:
      kind: its name, such as "dask".
      submit: (function, *args) -> Task. The function is one of a module that the workers can import, its arguments are
        small, and it may run twice or die at any moment.
      workers: how many calls run at once, or None where the engine decides.
      renew: () -> None: puts up a new pool where a worker's death has broken the old one, and does nothing otherwise.
      close: (cancel=False) -> None: ends what `connect` has started, with the calls that still run there, and nothing
        else. Jobs of a queue go on; with cancel=True those that still wait there are taken back.
    """

    kind: str
    submit: Callable[..., Task]
    workers: int | None
    renew: Callable[[], None] = lambda: None
    close: Callable[..., None] = lambda cancel=False: None


class Future:
    """A Task made of what an executor's `submit` returns: a cancelled call has failed."""

    def __init__(self, future: Any):
        self.future = future

    def done(self) -> bool:
        """Whether it has ended."""
        return bool(self.future.done())

    def exception(self) -> BaseException | None:
        """Why it failed, or None."""
        if self.future.cancelled():  # of such a call Dask says that nothing went wrong
            return concurrent.futures.CancelledError("the call was cancelled, or its scheduler is gone")
        found: BaseException | None = self.future.exception()
        return found


def submitting(submit: Callable[..., Any]) -> Callable[..., Task]:
    """The `submit` of an executor as that of an Engine: a broken pool makes a task that has failed, and no error."""

    def to_task(function: Callable[..., Any], *args: Any) -> Task:
        try:
            return Future(submit(function, *args))
        except concurrent.futures.BrokenExecutor as error:
            return failed(error)

    return to_task


def failed(error: BaseException) -> Task:
    """A Task that has failed already."""
    future: concurrent.futures.Future[None] = concurrent.futures.Future()
    future.set_exception(error)
    return Future(future)

"""Has the workers of an executor carry a run out: hands it a task for each chunk, and watches the run's folder."""

import collections
import contextlib
import functools
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from pgjax.dependencies import importing
from pgjax.engine import crew, interrupts
from pgjax.engine.board import POLL, Board
from pgjax.engine.checkpoints import Folder
from pgjax.engine.chunks import Schedule, read
from pgjax.engine.clock import SPENT
from pgjax.engine.leases import Shared
from pgjax.engine.ledger import ATTEMPTS
from pgjax.engine.progress import Progress
from pgjax.engine.stages import cost, next_rung
from pgjax.executors import Engine as Workers
from pgjax.executors import engine_of
from pgjax.runs import folder, worker
from pgjax.runs.execute import Job, concluded, show_before, verify
from pgjax.runs.run import Run

LOOK = 0.1  # seconds between two looks at the tasks
DEATHS = 10  # times in a row that tasks die before any worker began a chunk, until the run is given up
JOBS = 8  # of SLURM, where nobody says how many
REFUSED = (ValueError, TypeError, ImportError)  # of a task: bad input, which no other worker takes either


def drive(job: Job, executor: Any, progress: bool = True, objects: dict[str, Any] | None = None) -> Run:
    """Carry a job out by the workers of an executor, and write the results.

    Args:
      executor: an Engine of `pgjax.executors`, or an object with a method submit, such as a
        `concurrent.futures.Executor`, whose workers see the run's folder.
      objects: the algorithm, env, policy and plugs as they were given; those that can't be imported are pickled.

    Raises:
      ValueError: where a worker can't do its task: it doesn't see the folder, or is another kind of machine.
    """
    workers = engine_of(executor)
    if job.path is None:
        raise ValueError("executor: its workers need a folder that they see; give out")
    archive, sent = Folder(job.path / "chunks"), _pickled(job.config, objects or {})
    with interrupts.interruptible() as stop, Progress(shown=progress) as bar, _closing(workers, stop):
        if read(job.path / "chunks.json") is None:
            bar.say(f"planning on {workers.kind}")
            _plan(workers, job, sent, stop)
        if (schedule := read(job.path / "chunks.json")) is not None:
            result = _driven(job, schedule, archive, workers, sent, bar, stop)
    if schedule is None:
        interrupts.end(stop.signal)
        raise KeyboardInterrupt
    result.signal = stop.signal
    return result


def _driven(
    job: Job, schedule: Schedule, archive: Folder, workers: Workers, sent: bytes | None, bar: Progress, stop: Any
) -> Run:
    """The run once its chunks are trained, or once `stop` is set."""
    assert job.path is not None
    claims = Shared(job.path)
    board = Board(
        schedule,
        claims,
        functools.partial(cost, job.plan, schedule),
        lambda so_far: next_rung(job.plan, archive, so_far, job.execution.halving, job.path),
    )
    claims.forgive()
    verify(job.plan, archive, board)
    show_before(archive, board, bar)
    while True:
        _Tasks(workers, job, board, claims, sent, bar).work(stop)
        result, again = concluded(job, archive, board, dict.fromkeys(SPENT, 0.0))
        if stop.is_set() or not again:
            break
    return result


@contextlib.contextmanager
def _closing(workers: Workers, stop: threading.Event) -> Iterator[None]:
    """At the end, also by an error, end what was started for the run; a stop takes back the jobs that wait."""
    try:
        yield
    except BaseException:
        workers.close(cancel=True)
        raise
    workers.close(cancel=stop.is_set())


def _plan(workers: Workers, job: Job, sent: bytes | None, stop: threading.Event) -> None:
    """Have a worker make the schedule, since it may have another kind of device than this process."""
    for attempt in range(ATTEMPTS):
        planning = workers.submit(worker.task, _place(job), [], sent)
        while not planning.done() and not stop.is_set():
            time.sleep(LOOK)  # not by `stop`, whose lock the signal's handler takes
        error = None if stop.is_set() else planning.exception()
        if error is None:
            return
        if isinstance(error, REFUSED) or attempt == ATTEMPTS - 1:
            folder.discard(job.made)
            raise _refused(error) from error
        workers.renew()


def _place(job: Job) -> str:
    """The run's folder as workers find it, which may have been started in another one."""
    assert job.path is not None
    return str(job.path.absolute())


def _refused(error: BaseException) -> BaseException:
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return (
        error
        if isinstance(error, REFUSED)
        else ValueError(f"executor: its workers die: {type(error).__name__}: {said}")
    )


class _Tasks:
    """The tasks that the workers of an executor have been given."""

    def __init__(self, workers: Workers, job: Job, board: Board, claims: Shared, sent: bytes | None, bar: Progress):
        self.workers, self.job, self.board, self.claims, self.sent, self.bar = workers, job, board, claims, sent, bar
        self.tasks: dict[int, Any] = {}  # number of the chunk -> its task; of SLURM, of the job
        self.deaths, self.logged, self.looked = 0, 0, 0.0
        self.broken: collections.Counter[int] = collections.Counter()  # chunk -> errors of workers' machines

    def work(self, stop: threading.Event) -> None:
        """Give tasks until every chunk is done or was given up, or until `stop` is set."""
        left, ready = self.board.left()
        while left and not stop.is_set():
            self._submit(ready)
            time.sleep(LOOK)
            ended, late = self._settle(), time.monotonic() - self.looked > POLL
            if late:
                crew.look(self.board, self.bar, works=False)
                self.looked = time.monotonic()
            if ended or late:
                left, ready = self.board.left()
        crew.look(self.board, self.bar, works=False)

    def _submit(self, ready: list[int]) -> None:
        """A task for each chunk; on SLURM, where a job takes long to begin, as many jobs as there are workers."""
        if self.workers.kind == "slurm":
            wanted = list(range(min(self.workers.workers or JOBS, len(ready))))
            given: Callable[[int], list[int] | None] = lambda number: None  # noqa: E731
        else:
            wanted, given = ready, lambda number: [number]
        for number in wanted:
            if number not in self.tasks:
                self.tasks[number] = self.workers.submit(worker.task, _place(self.job), given(number), self.sent)

    def _settle(self) -> bool:
        """Forget the tasks that have ended; one whose worker died is given again. Whether any has ended.

        Raises:
          ValueError: where workers refuse the task, or die before they begin a chunk, `DEATHS` times in a row.
          OSError, MemoryError: where they say so of their machine as often for the same chunk.
        """
        errors, ended = [], [number for number, one in self.tasks.items() if one.done()]
        for number in ended:
            if (error := self.tasks.pop(number).exception()) is not None:
                errors.append(error)
                self.broken[number] += crew.of_machine(error)
                if isinstance(error, REFUSED) or self.broken[number] >= DEATHS:
                    raise error
        if errors:
            logged = self.claims.logged()
            self.deaths = self.deaths + 1 if logged == self.logged else 0
            self.logged = logged
            if self.deaths >= DEATHS:
                raise _refused(errors[0]) from errors[0]
            self.workers.renew()
        return bool(ended)


def _pickled(config: dict[str, Any], objects: dict[str, Any]) -> bytes | None:
    """The user's objects that a worker can't import, by value, and whether it shall take code that was edited."""
    by_value = {
        name: objects[name]
        for name, entry in config["objects"].items()
        if "name" not in entry and not entry["spec"] and objects.get(name) is not None
    }
    edited = {"edited": True} if objects.get("edited") else {}
    if not by_value:
        return pickle.dumps(edited) if edited else None
    with importing("cloudpickle", "loky", f"executor: {', '.join(by_value)} can't be imported, and are pickled"):
        import cloudpickle
    found: bytes = cloudpickle.dumps(by_value | edited)
    return found

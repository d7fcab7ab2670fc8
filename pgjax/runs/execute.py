"""Carries a run out in this process: trains it while listening for signals, and writes the results."""

import contextlib
import functools
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from pgjax import analysis
from pgjax.engine import chunks, crew, interrupts, machine, processes
from pgjax.engine import memory as engine_memory
from pgjax.engine.board import Board
from pgjax.engine.checkpoints import Archive, Folder, Memory
from pgjax.engine.execution import Execution
from pgjax.engine.leases import Alone, Shared, planning
from pgjax.engine.loggers import Logger, Watch
from pgjax.engine.progress import Progress
from pgjax.engine.stages import cost, first_schedule, kept_updates, next_rung
from pgjax.engine.trainer import Engine
from pgjax.runs import folder, summary
from pgjax.runs.rebuild import scheduled
from pgjax.runs.run import Run
from pgjax.sweeps.plan import Plan


class Job(NamedTuple):
    """A run that was checked and whose folder was made, ready to be carried out; nothing is compiled yet."""

    plan: Plan
    config: dict[str, Any]
    path: pathlib.Path | None
    execution: Execution
    watch: Logger | None = None  # the logger that the execution names
    made: Sequence[pathlib.Path] = ()  # folders to remove where the run turns out not to fit
    given: dict[str, Any] | None = None  # objects that can't be imported, by which the run is read back
    strict: bool = True  # refuse a machine whose numbers would differ from those of the run


def execute(job: Job, progress: bool = True, watch: Watch | None = None, worker: bool = False) -> Run:
    """Train the lanes that are not trained yet and that no other process trains, and write the results.

    Args:
      watch: called with the metrics of every segment that was trained; by default the logger of the run.
      worker: where a signal stops it, leave the results to others.
    """
    made = contextlib.closing(job.watch) if job.watch else contextlib.nullcontext()
    with interrupts.interruptible() as stop, Progress(shown=progress and processes.first()) as bar, made:
        engine = new_engine(job, watch)
        with contextlib.closing(engine):
            board = opened(job, engine, bar)
            if isinstance(board.claims, Shared) and not worker:
                board.claims.forgive()
                verify(job.plan, engine.archive, board)
            show_before(engine.archive, board, bar)
            keep = lambda g: kept_updates(board.schedule, g, job.execution.snapshots)  # noqa: E731
            while True:
                crew.work(engine, board, keep, bar, stop)
                if worker and stop.is_set():
                    result = Run(job.config, job.path, engine.archive, job.given)
                    break
                result, again = concluded(job, engine.archive, board, engine.clock.spent, worker)
                if stop.is_set() or not again:
                    break
    result.signal = stop.signal
    engine_memory.give_back()
    return result


def new_engine(job: Job, watch: Watch | None = None) -> Engine:
    """The engine of a job on the devices of this process."""
    archive: Archive = Memory() if job.path is None else Folder(job.path / "chunks")
    devices, how = processes.devices(job.execution.devices), job.execution
    return Engine(job.plan, archive, devices, how.shard, how.checkpoint, watch or job.watch)


def opened(job: Job, engine: Engine, bar: Progress) -> Board:
    """The board of a job, whose schedule is made now unless it is in the folder.

    Raises:
      ValueError: where too little memory, or a machine of another kind, doesn't let the job be carried out here.
    """
    how, path = job.execution, job.path
    try:
        schedule = first_schedule(job.plan, engine, how, path, bar)
    except ValueError:  # too little memory, which is known only after compiling
        folder.discard(job.made)
        raise
    if job.strict and (found := machine.difference(schedule.machine, machine.signature())):
        raise ValueError(
            f"path: the run in {str(path)!r} was begun elsewhere: {found}; its numbers would differ from here on "
            f"(pgjax resume {path} goes on all the same)"
        )
    if schedule.bytes:
        engine.limit(max(schedule.bytes), how.memory)
    return Board(
        schedule,
        Alone() if path is None else Shared(path),
        functools.partial(cost, job.plan, schedule),
        lambda so_far: next_rung(job.plan, engine.archive, so_far, how.halving, path),
    )


def verify(plan: Plan, archive: Archive, board: Board) -> None:
    """Bring what is said to be done in line with the checkpoints that are sound."""
    assert isinstance(board.claims, Shared)
    done = board.claims.done()
    for number, chunk in enumerate(board.schedule.chunks):
        whole = summary.complete(plan, chunk, archive.measured(number, discard=number not in board.claims.held()))
        if whole and number not in done:
            board.claims.finish(number)
        elif not whole and number in done:
            board.claims.reopen(number)


def show_before(archive: Archive, board: Board, bar: Progress) -> None:
    """Start the bar where the run stands."""
    bar.start(crew.sizes(board))
    for number, chunk in enumerate(board.schedule.chunks):
        bar.at(number, max([chunk.first, *archive.updates(number)]) - chunk.first)


def concluded(
    job: Job, archive: Archive, board: Board, clock: dict[str, float], worker: bool = False
) -> tuple[Run, bool]:
    """The run with its results so far, which are written into its folder, one process at a time.

    Args:
      clock: seconds that this process spent.
      worker: where another process has written all results already, return these.

    Returns:
      the run, and whether a chunk that was done has to be trained again, since its checkpoint is damaged.
    """
    with planning(job.path):
        written = {} if job.path is None else Run(job.config, job.path, archive).summary
        if worker and not written.get("interrupted", True):
            return Run(job.config, job.path, archive, job.given), False
        if not any(clock.values()):  # nothing was trained here: the times are of who has
            clock = {kind: written.get(kind, 0.0) for kind in clock}
        # Another process may have made it longer: by a rung, or by `extend`.
        schedule = board.schedule if job.path is None else chunks.read(job.path / "chunks.json") or board.schedule
        chosen, how, errors = scheduled(job.plan, schedule), job.execution, board.claims.errors()
        result, unsound = summary.collect(chosen, job.config, schedule, archive, job.path, how.halving, clock, errors)
        again = board.claims.done() & unsound
        for number in again:
            board.claims.reopen(number)
        if job.path is not None and not again:
            draw = functools.partial(analysis.curve, result.metrics, title=result.title)
            folder.write(job.path, result.summary, result.metrics, draw)
    return result, bool(again)

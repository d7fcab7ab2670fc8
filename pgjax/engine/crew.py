"""Trains what there is to train, a thread for each team of devices, beside the other processes of the run."""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from typing import Any

from pgjax.engine.board import Board, lost
from pgjax.engine.leases import Shared
from pgjax.engine.ledger import ATTEMPTS, DEATHS
from pgjax.engine.progress import Progress, Size
from pgjax.engine.statuses import OLD, TOLD, statuses
from pgjax.engine.trainer import Engine

MANY = 32  # other processes: of so many all are read as often as this one reports, of more less often
Keep = Callable[[int], Collection[int]]  # group -> the updates whose checkpoints stay


def work(engine: Engine, board: Board, keep: Keep, bar: Progress, stop: threading.Event) -> None:
    """Train chunks until none is left that isn't done or given up, or until `stop` is set.

    Raises:
      OSError, MemoryError: of this machine; other errors of a run without a folder. In a folder they are the chunk's,
        which is tried again.
    """
    errors: list[BaseException] = []

    def of_team(team: int) -> None:
        try:
            while (number := board.take(stop)) is not None:
                train(engine, board, number, team, keep, bar, stop)
        except BaseException as error:
            errors.append(error)
            stop.set()

    teams = range(1, min(len(engine.teams), len(board.schedule.chunks)))
    # A second Ctrl-C must end the program whatever these do.
    threads = [threading.Thread(target=of_team, args=(team,), daemon=True) for team in teams]
    with reporting(engine, board, bar):
        for thread in threads:
            thread.start()
        try:
            of_team(0)
            for error in errors:
                if isinstance(error, KeyboardInterrupt):
                    raise error
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            atexit.register(_abandon, threads)
            raise
    if errors:
        raise errors[0]


def _abandon(threads: list[threading.Thread]) -> None:
    """End the program now if threads still train: where Python ends while they are in XLA's code, it aborts."""
    if any(thread.is_alive() for thread in threads):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + signal.SIGINT)


def train(
    engine: Engine, board: Board, number: int, team: int, keep: Keep, bar: Progress, stop: threading.Event
) -> None:
    """Train a chunk that the board has given to this thread, and give it back."""
    claims, chunk, ended = board.claims, board.schedule.chunks[number], False
    reached = lambda: max([chunk.first, *engine.archive.updates(number)])  # noqa: E731
    if isinstance(claims, Shared) and claims.fatal(number):
        error = f"{DEATHS} workers died at update {reached()}, before they could save it"
        claims.note(number, "failed", reached(), error)
        for _ in range(ATTEMPTS):
            claims.fail(number, error)
        board.release(number, False)
        return
    claims.note(number, "began", reached(), f"on {device(engine.teams[team])}")
    if len(bar.sizes) != len(board.schedule.chunks):
        bar.start(sizes(board))
    bar.at(number, reached() - chunk.first)
    try:
        ended = engine.train(board.schedule, number, team, keep(chunk.group), bar, stop)
        lost_lanes = bar.failed.get(number, 0)
        said = f"{lost_lanes} of {len(chunk.lanes)} lanes failed" if lost_lanes else ""
        claims.note(number, "ended" if ended else "stopped", reached(), said)
    except Exception as error:
        said, whole = f"{type(error).__name__}: {error}", traceback.format_exc()
        file = claims.fail(number, said, whole) if isinstance(claims, Shared) and not of_machine(error) else ""
        claims.note(number, "failed", reached(), f"{said}; its traceback is in {file}" if file else said)
        if not file:
            raise
    except BaseException:  # a second Ctrl-C
        claims.note(number, "stopped", reached(), "at once")
        raise
    finally:
        board.release(number, ended)


def of_machine(error: BaseException) -> bool:
    """Whether an error is of the machine, its disk or its memory, and not of what it trains."""
    return isinstance(error, (OSError, MemoryError)) or "RESOURCE_EXHAUSTED" in str(error)


def sizes(board: Board) -> dict[int, Size]:
    """What there is to do in each chunk, as `Progress.start` takes it."""
    chunks = enumerate(board.schedule.chunks)
    return {i: Size(len(c.lanes), c.last - c.first, board.cost(c) / max(1, c.last - c.first)) for i, c in chunks}


def device(team: list[Any]) -> str:
    """A team's devices in a few words: "cpu:0", "gpu:0 (NVIDIA H200)", "gpu:0 to 3 (NVIDIA H200)"."""
    first, last = team[0], team[-1]
    kind = f" ({first.device_kind})" if first.device_kind != first.platform else ""
    return f"{first.platform}:{first.id}" + (f" to {last.id}" if last.id != first.id else "") + kind


@contextlib.contextmanager
def reporting(engine: Engine, board: Board, bar: Progress) -> Iterator[None]:
    """While this lasts, a thread tells the other processes what this one does, and shows what they do."""
    if not isinstance(board.claims, Shared):
        yield
        return
    claims, over, where = board.claims, threading.Event(), device(engine.devices)

    def tell() -> None:
        mine = {number: bar.made.get(number, 0) for number in list(board.mine)}
        claims.tell({"began": claims.began, "time": time.time(), "device": where, "chunks": mine, **bar.said()})

    def report() -> None:
        looked, often = -float("inf"), TOLD
        while True:
            with contextlib.suppress(OSError):  # told again soon
                tell()
                if bar.shown and time.monotonic() - looked >= often:
                    looked, often = time.monotonic(), TOLD * max(1.0, look(board, bar) / MANY)
            if over.wait(TOLD):
                return

    with board.changed:
        board.reports += 1
    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(TOLD)
        with board.changed:
            board.reports -= 1
        if not board.reports:  # no other thread of this process works for the run
            claims.leave()
        if bar.shown:
            with contextlib.suppress(OSError):
                look(board, bar)


def look(board: Board, bar: Progress, works: bool = True) -> int:
    """Show how far the whole run has come, whoever works.

    Args:
      works: whether this process trains chunks too.

    Returns:
      how many others do.
    """
    claims, now = board.claims, time.time()
    assert isinstance(claims, Shared)
    if len(bar.sizes) != len(board.schedule.chunks):
        bar.start(sizes(board))
    done, others = claims.done(), [one for one in statuses(claims.told()) if one.who != claims.who]
    for number, chunk in enumerate(board.schedule.chunks):
        if number in done:
            bar.at(number, chunk.last - chunk.first)
    there = [one for one in others if not one.gone(now)]
    for one in others:
        if now - one.time > OLD:
            claims.forget(one.who)
        for number, updates in one.chunks.items() if one in there else ():
            if number not in done and number not in board.mine:
                bar.at(number, updates)
    bar.hear(there, len(there) + works, lost(board.needs, claims.failures()) - done)
    return len(there)

"""What happens in the folder of a run: who trains what, how fast, and how long it will take."""

import time
from typing import NamedTuple

from pgjax.engine.board import lost, needs
from pgjax.engine.checkpoints import Folder
from pgjax.engine.ledger import ATTEMPTS, Ledger
from pgjax.engine.stages import cost
from pgjax.engine.statuses import Status, statuses
from pgjax.runs import rebuild, summary
from pgjax.runs.run import Run


class Overview(NamedTuple):
    """A run at some moment; sets hold the numbers of chunks."""

    run: Run  # as it is then
    time: float  # seconds since 1970
    saved: dict[int, int]  # chunk -> the updates after which its newest checkpoint is
    made: dict[int, int]  # chunk -> updates of each of its lanes, of which some may not be saved yet
    workers: list[Status]  # those that work, by name
    gone: list[Status]  # those that ended or died, and left chunks that nobody has taken over
    done: set[int]
    at_work: set[int]
    waiting: set[int]
    failed: dict[int, str]  # given up -> why, in a line
    needing: set[int]  # what needs a chunk that was given up
    again: set[int]  # failed less than three times, and to be tried again
    taken: set[int]  # of all chunks, those that were taken over from a worker that was gone
    left: float | None  # seconds; None where that isn't known

    @property
    def complete(self) -> bool:
        """Whether all is trained and the results are written."""
        return bool(self.run.summary) and not self.run.interrupted

    @property
    def stuck(self) -> bool:
        """Whether nobody works, and nothing is left but what was given up."""
        return bool(self.failed) and not (self.workers or self.at_work or self.waiting)

    @property
    def updates(self) -> tuple[int, int]:
        """Updates of all lanes so far, and those that there will have been."""
        chunks = enumerate(self.run.schedule.chunks)
        pairs = [(len(c.lanes) * self.made[i], len(c.lanes) * (c.last - c.first)) for i, c in chunks]
        return sum(made for made, _ in pairs), sum(wanted for _, wanted in pairs)


def overview(before: Run) -> Overview:
    """Looks at the folder of a run that was begun, and writes nothing into it.

    Args:
      before: the run as it was read before: its plan isn't made again.
    """
    run, now = Run.open(before.folder, **before.given), time.time()
    schedule, ledger = run.schedule, Ledger(run.folder)
    run.plan = rebuild.scheduled(before.plan, schedule)
    said, failures, held = statuses(ledger.told()), ledger.failures(), ledger.held()
    done = ledger.done()  # after held: what has ended by now is at work no more
    every = set(range(len(schedule.chunks)))
    saved = {number: schedule.chunks[number].last for number in done & every}
    saved |= Folder(run.folder / "chunks").newest(every - done)
    given_up = {number for number, times in failures.items() if times >= ATTEMPTS and number not in done}
    dead = lost(needs(schedule), failures) - done if given_up else set()
    open_ = every - done - dead

    made = {i: max(saved.get(i, 0) - c.first, 0) for i, c in enumerate(schedule.chunks)}
    workers = {one.who: one for one in said if not one.gone(now)}
    last = {number: one for one in said for number in one.chunks}  # chunk -> who spoke last of it
    at_work = {number for number in held & open_ if number in last and last[number].who in workers}
    for number in held & open_ - at_work:  # claimed since its owner spoke
        if one := workers.get(ledger.owner(number) or ""):
            at_work.add(number)
            one.chunks[number] = made[number]
    gone = [one for one in said if one.gone(now) and any(last[n] is one for n in set(one.chunks) & open_ - at_work)]
    for one in workers.values():
        one.chunks.update({number: max(updates, made.get(number, 0)) for number, updates in one.chunks.items()})
        made |= {number: updates for number, updates in one.chunks.items() if number in open_}
    made |= {number: schedule.chunks[number].last - schedule.chunks[number].first for number in done & every}
    remaining = 0.0
    for number in open_:
        chunk = schedule.chunks[number]
        share = made[number] / max(1, chunk.last - chunk.first)
        remaining += cost(run.plan, schedule, chunk) * (1 - share)
    pace = sum(one.work_per_second for one in workers.values())
    return Overview(
        run=run,
        time=now,
        saved=saved,
        made=made,
        workers=[workers[who] for who in sorted(workers)],
        gone=gone,
        done=done & every,
        at_work=at_work,
        waiting=open_ - at_work,
        failed={
            i: summary.failed(run.plan, schedule, i, x, run.path) for i, x in ledger.errors().items() if i in given_up
        },
        needing=dead - given_up,
        again={number for number in failures if number in open_},
        taken=ledger.taken() & every,
        left=remaining / pace if pace else None,
    )

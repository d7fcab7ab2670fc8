"""What `pgjax show` says of the workers of a run, once or, with --watch, until the run has ended."""

import contextlib
import datetime
import signal
import time
from collections.abc import Callable
from typing import Any

from pgjax.cli.common import make_console
from pgjax.dependencies import importing
from pgjax.engine.progress import count, duration
from pgjax.engine.statuses import Status
from pgjax.runs.overview import Overview

EVERY = 5.0  # seconds between two looks
ROWS = 20  # of the table, at most
CHUNKS = 4  # of a worker that are named


def lines(seen: Overview) -> list[Any]:
    """What becomes of the chunks, the pace, a line for each chunk that was given up, and a table of who works."""
    out: list[Any] = [chunks(seen), *([pace(seen)] if seen.workers else []), *seen.failed.values()]
    return [*out, _table(seen)] if seen.workers or seen.gone else out


def chunks(seen: Overview) -> str:
    """How many chunks are done, at work and so on, in a line."""
    some = [(len(seen.at_work), "at work"), (len(seen.waiting), "waiting"), (len(seen.failed), "failed")]
    some += [(len(seen.needing), "in need of one that failed"), (len(seen.again), "to be tried again after an error")]
    some += [(len(seen.taken), "taken over from a worker that was gone")]
    shown = [f"{number:,} {what}" for number, what in some if number]
    shown += ["the results are not written yet"] if len(seen.done) == len(seen.made) and not seen.complete else []
    return ", ".join([f"{len(seen.done):,} of {len(seen.made):,} chunks done", *shown])


def pace(seen: Overview) -> str:
    """Updates so far, environment steps a second and the time left, in a line."""
    made, wanted = seen.updates
    rate = sum(one.steps_per_second for one in seen.workers)
    shown = [f"{made:,} of {wanted:,} updates of all lanes", f"{count(rate)} environment steps/s" if rate else ""]
    return ", ".join(filter(None, [*shown, "" if seen.left is None else f"{duration(seen.left)} left"]))


def _table(seen: Overview) -> Any:
    """A rich table with a row for each worker; of many, for those that spoke longest ago."""
    with importing("rich"):
        from rich.table import Table

    every = [*seen.workers, *seen.gone]
    shown = every if len(every) <= ROWS else sorted(every, key=lambda one: one.time)[:ROWS]
    more = f"{len(every) - ROWS:,} more, which spoke later" if len(every) > ROWS else None
    title = f"{len(seen.workers):,} worker{'s' * (len(seen.workers) != 1)}" if seen.workers else "nobody works"
    out = Table(title=title, title_justify="left", caption=more, caption_justify="left")
    for column in ("worker", "on", "since", "chunk: updates", "updates/s", "spoke"):
        out.add_column(column, justify="right" if column in ("updates/s", "spoke") else "left", overflow="fold")
    for one in shown:
        ago = f"{duration(max(0.0, seen.time - one.time))} ago"
        row = [one.who, one.device, _clock(one.began, seen.time), _chunks(one, seen)]
        gone = one in seen.gone
        rate = count(one.updates_per_second) if one.updates_per_second and not gone else "-"
        out.add_row(*row, rate, f"gone, {ago}" if gone else ago)
    return out


def _chunks(one: Status, seen: Overview) -> str:
    schedule = seen.run.schedule.chunks
    mine = [
        (n, schedule[n], made) for n, made in sorted(one.chunks.items()) if n < len(schedule) and n not in seen.done
    ]
    shown = [f"{number}: {c.first + made:,} of {c.last:,}" for number, c, made in mine[:CHUNKS]]
    return "\n".join(shown + ([f"and {len(mine) - CHUNKS} more"] if len(mine) > CHUNKS else [])) or (
        "waits" if seen.at_work or seen.waiting else "-"
    )


def _clock(then: float, now: float) -> str:
    at, today = datetime.datetime.fromtimestamp(then), datetime.datetime.fromtimestamp(now).date()
    return f"{at:%H:%M:%S}" if at.date() == today else f"{at:%Y-%m-%d %H:%M}"


def taken(seen: Overview) -> list[str]:
    """A line on a run that is complete, where workers were lost on the way."""
    return [chunks(seen)] if seen.taken else []


def say(console: Any, found: list[Any]) -> None:
    """Print lines and tables."""
    for line in found:
        console.print(line, highlight=False, markup=False, soft_wrap=isinstance(line, str))


def watch(look: Callable[[], tuple[list[Any], Overview | None]]) -> int:
    """Shows the same again every five seconds, until the run has ended: on one screen of a terminal, elsewhere news.

    Args:
      look: makes all lines of now, and what happens in the folder; None where the run hasn't begun.

    Returns:
      0 where the run is complete, 1 where nothing is left but chunks that failed, 130 after Ctrl-C.
    """
    with importing("rich"):
        from rich.console import Group
        from rich.live import Live
        from rich.text import Text

    console, before = make_console(), None
    live = Live(console=console, auto_refresh=False) if console.is_terminal else contextlib.nullcontext()
    try:
        with live:
            while True:
                found, seen = look()
                over = seen is not None and (seen.complete or seen.stuck)
                if isinstance(live, Live):
                    live.update(Group(*(Text(x) if isinstance(x, str) else x for x in found)), refresh=True)
                else:
                    say(console, found if over or before is None or seen is None else news(before, seen))
                if seen is not None and over:
                    return 0 if seen.complete else 1
                before = seen
                time.sleep(EVERY)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def news(before: Overview, seen: Overview) -> list[str]:
    """What has changed between two looks: the counts, who came or went, and what failed."""
    then, now = ({one.who: one for one in x.workers} for x in (before, seen))
    out = [f"{who} works on {one.device}" for who, one in now.items() if who not in then]
    gone = {one.who for one in seen.gone}
    out += [f"{who} is gone" if who in gone else f"{who} has left" for who in then if who not in now]
    out += [text for number, text in seen.failed.items() if number not in before.failed]
    if (chunks(before), before.updates) != (chunks(seen), seen.updates):
        out.append(f"{chunks(seen)}; {pace(seen)}")
    return out

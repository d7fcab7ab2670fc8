"""Splits a run's lanes into chunks of equal width, and stores that schedule in `chunks.json`.

A lane is (h, seed): a setting of its group, and a seed. A lane's result is a function of its setting, its seed, the
width and the kind of device, bit for bit; so lanes may be grouped into chunks in any way.
"""

import json
import pathlib
from typing import Any, NamedTuple

from pgjax.engine import files

Lane = tuple[int, int]


class Chunk(NamedTuple):
    """Lanes that are trained together from one update to another; the rest of the width is padding."""

    group: int
    stage: int  # chunks of one stage don't wait for each other
    first: int  # updates that its lanes have had at its start
    last: int  # updates that they have had at its end
    lanes: tuple[Lane, ...]


class Schedule(NamedTuple):
    """All chunks of a run. It changes as the run is extended or its settings are stopped by halving."""

    widths: list[int]  # of each group: lanes of its compiled program, on one device
    segments: list[int]  # of each group: updates of one call of it
    seeds: list[int]
    updates: list[int]  # of each group, in all
    chunks: list[Chunk]  # in the order of training; a chunk's place is its number
    extended: list[Any] = []  # the arguments of each extension
    bytes: list[float] = []  # of each group: what its program takes on a device, by XLA's analysis
    machine: dict[str, str] = {}  # `machine.signature` of whoever made it, which every worker must share


def split(group: int, stage: int, first: int, last: int, lanes: list[Lane], width: int) -> list[Chunk]:
    """Chunks of `width` lanes, the last with what remains."""
    return [Chunk(group, stage, first, last, tuple(lanes[i : i + width])) for i in range(0, len(lanes), width)]


def padded(chunk: Chunk, width: int) -> list[Lane]:
    """The chunk's lanes, the last one repeated up to the width."""
    return [*chunk.lanes, *[chunk.lanes[-1]] * (width - len(chunk.lanes))]


def history(schedule: Schedule, group: int, lane: Lane) -> list[tuple[int, int]]:
    """(number of the chunk, place in it) of every chunk that trains the lane, from the first update on."""
    found = [(i, chunk.lanes.index(lane)) for i, chunk in enumerate(schedule.chunks) if _holds(chunk, group, lane)]
    return sorted(found, key=lambda pair: schedule.chunks[pair[0]].first)


def _holds(chunk: Chunk, group: int, lane: Lane) -> bool:
    return chunk.group == group and lane in chunk.lanes


def segment(updates: int, wanted: int = 40) -> int:
    """Updates of one segment: the largest divisor of `updates` that leaves `wanted` segments or more."""
    most = max(1, updates // wanted)
    return max(n for n in range(1, most + 1) if updates % n == 0)


def points(updates: int, length: int, count: int) -> set[int]:
    """The updates after which a snapshot is due: fractions 0, 1/count, ... of all, as whole segments."""
    return {round(updates * i / count / length) * length for i in range(count)}


def write(path: pathlib.Path, schedule: Schedule) -> None:
    """Write the schedule, the whole file or nothing."""
    text = json.dumps({**schedule._asdict(), "chunks": [chunk._asdict() for chunk in schedule.chunks]})
    files.replace_text(path, text)


def read(path: pathlib.Path) -> Schedule | None:
    """The schedule that `write` wrote; None where there is no such file."""
    try:
        found = json.loads(files.read(path))
        chunks = [Chunk(**{**c, "lanes": tuple((h, seed) for h, seed in c["lanes"])}) for c in found["chunks"]]
        return Schedule(**{**found, "chunks": chunks})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"path: {str(path)!r} can't be read: {error}; it is not as pgjax wrote it") from error

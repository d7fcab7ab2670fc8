"""Trains chunks of lanes on one device or many, and saves their checkpoints."""

import concurrent.futures
import dataclasses
import math
import threading
import time
from collections.abc import Collection, Sequence
from typing import Any

import jax
import numpy as np

from pgjax.engine import checkpoints, chunks, memory, programs
from pgjax.engine.checkpoints import Checkpoint
from pgjax.engine.chunks import Chunk
from pgjax.engine.loggers import Watch
from pgjax.engine.progress import Progress
from pgjax.sweeps.plan import Plan
from pgjax.training import vectorised
from pgjax.types import PyTree

Waiting = tuple[int, Checkpoint | None]  # the number of a chunk, and its newest checkpoint without its state


class Engine:
    """Trains chunks of a plan on some devices.

    Attributes:
      devices: those of this process; each trains a chunk of its own (shard="lanes"), or all train one chunk, its
        environments split between them (shard="envs").
      clock: seconds spent compiling, training and evaluating.
    """

    def __init__(
        self,
        plan: Plan,
        archive: checkpoints.Archive,
        devices: list[Any],
        shard: str,
        every: float,
        watch: Watch | None = None,
    ):
        self.plan, self.archive, self.every, self.watch = plan, archive, every, watch
        if any(group.env.host for group in plan.groups):
            devices = devices[:1]  # all would wait for the same host
        self.devices, self.teams = devices, [[d] for d in devices] if shard == "lanes" else [devices]
        self.clock = {"compile_seconds": 0.0, "train_seconds": 0.0, "evaluate_seconds": 0.0}
        self.programs: dict[tuple[int, int], programs.Programs] = {}  # by group and team

    def width(self, g: int, lanes: int, length: int, budget: float | None) -> int:
        """The number of lanes for each team that fits the budget and is worth its memory, found by compiling.

        Raises:
          ValueError: where not even one lane fits.
        """
        share = width = math.ceil(lanes / len(self.teams))
        while True:
            made = self.compile(g, width, length)
            needed, spare = made.bytes, memory.spare(budget, self.devices)
            # By what factor the program is too large, for the memory or for the caches.
            excess = max(needed / max(spare, 1.0), (needed - made.idle) / memory.worth(self.devices))
            if excess <= 1 or (width == 1 and needed <= spare):
                return width
            if width == 1:
                raise ValueError(
                    f"memory: one lane needs {needed / 1e6:.2f} MB, and besides the memory that the process holds "
                    f"{max(spare, 0.0) / 1e6:.2f} MB are left; "
                    "give more memory, or fewer environments or steps"
                )
            # Memory grows in proportion to the lanes; a little less, so that the next program fits.
            most = max(1, min(width - 1, int(0.95 * width / excess)))
            # With as many chunks as that takes, all of them are about equally full.
            width = math.ceil(share / math.ceil(share / most))

    def compile(self, g: int, width: int, length: int, teams: Sequence[int] = (0,)) -> programs.Programs:
        """Compile the programs of a group for some teams; returns those of the first."""
        began = time.perf_counter()
        build = lambda team: programs.compiled(self.plan.groups[g], width, length, self.teams[team])  # noqa: E731
        # XLA compiles outside of Python's lock.
        with concurrent.futures.ThreadPoolExecutor(len(teams)) as pool:
            made = list(pool.map(build, teams))
        self.programs |= {(g, team): one for team, one in zip(teams, made, strict=True)}
        self.clock["compile_seconds"] += time.perf_counter() - began
        return made[0]

    def train(
        self,
        schedule: chunks.Schedule,
        numbers: list[int],
        keep: Collection[int],
        bar: Progress,
        stop: threading.Event,
    ) -> None:
        """Train the chunks of these numbers, all of one group, each from its newest checkpoint to its end.

        Args:
          keep: updates whose checkpoints are made and stay.
        """
        g = schedule.chunks[numbers[0]].group
        found: dict[tuple[int, int, int], list[Waiting]] = {}
        for number in numbers:
            chunk = schedule.chunks[number]
            kept = self.archive.measured(number, discard=True)  # states are loaded when the chunk begins
            at = chunk.first if kept is None else kept.update
            evaluated = kept is not None and bool(kept.finals)
            bar.skip((at - chunk.first) * len(chunk.lanes))
            if at < chunk.last or (chunk.last == self.plan.groups[g].updates and not evaluated):
                found.setdefault((chunk.first, chunk.last, at), []).append((number, kept))
        try:
            for waiting in found.values():
                for i in range(0, len(waiting), len(self.teams)):
                    if stop.is_set():
                        return
                    self._round(schedule, g, waiting[i : i + len(self.teams)], keep, bar, stop)
        finally:
            for one in self.programs.values():
                one.close()

    def _round(
        self,
        schedule: chunks.Schedule,
        g: int,
        pairs: list[Waiting],
        keep: Collection[int],
        bar: Progress,
        stop: threading.Event,
    ) -> None:
        """Train chunks side by side, a team for each, all from the same update on."""
        group, width, length = self.plan.groups[g], schedule.widths[g], schedule.segments[g]
        if missing := [t for t in range(len(pairs)) if (g, t) not in self.programs]:
            bar.say(f"compiling for {width} lanes")
            self.compile(g, width, length, missing)
        members = [self._begin(schedule, number, kept, self.programs[g, t]) for t, (number, kept) in enumerate(pairs)]
        chunk, at = members[0].chunk, members[0].at
        began = saved = time.perf_counter()

        def save():
            for m in members:
                spent = m.seconds + (time.perf_counter() - began) / len(members)
                self.archive.save(m.number, m.checkpoint(at, spent), keep)

        while at < chunk.last:
            if at in keep and any(at not in self.archive.updates(m.number) for m in members):
                save()
            if stop.is_set():
                return
            tick = time.perf_counter()
            # Each call returns before its program has ended, so the teams work at the same time.
            seen = [m.step() for m in members]
            seen = jax.block_until_ready(seen)
            self.clock["train_seconds"] += time.perf_counter() - tick
            at += length
            for m, metrics in zip(members, seen, strict=True):
                shown = m.add(metrics)
                count = len(m.chunk.lanes)
                bar.update(length * count, m.number, shown, np.asarray(m.states.finite)[:count])
                if self.watch is not None:
                    self.watch([{**group.settings[h], "seed": seed} for h, seed in m.chunk.lanes], at, shown)
            if at < chunk.last and (time.perf_counter() - saved >= self.every or stop.is_set()):
                save()
                saved = time.perf_counter()
        if chunk.last == group.updates:
            tick = time.perf_counter()
            for m in members:
                m.evaluate()
            self.clock["evaluate_seconds"] += time.perf_counter() - tick
        save()

    def _begin(
        self, schedule: chunks.Schedule, number: int, kept: Checkpoint | None, on: programs.Programs
    ) -> "_Member":
        """A chunk with its states on the devices: from its checkpoint, from other chunks, or newly drawn."""
        chunk = schedule.chunks[number]
        group, width = self.plan.groups[chunk.group], schedule.widths[chunk.group]
        shapes = checkpoints.shapes(group, width)
        place = {seed: i for i, seed in enumerate(self.plan.seeds)}
        index = np.array([h * len(place) + place[seed] for h, seed in chunks.padded(chunk, width)])
        every = vectorised.lanes(group.hypers, self.plan.seeds, group.config.generator)
        keys, hypers = jax.device_put(jax.tree.map(lambda x: x[index], every), on.lanes)
        if kept is not None:
            kept = self.archive.load(number, checkpoints.kept_shapes(group, width), kept.update)
            assert kept is not None  # it was sound when it was measured
            curves = {name: [x] for name, x in kept.metrics.items() if name != "finite"}
            states = jax.device_put(checkpoints.device(kept.state, shapes), on.states)
            return _Member(number, chunk, on, keys, hypers, states, kept.update, curves, kept.seconds)
        if chunk.first:
            states = jax.device_put(checkpoints.device(self._gathered(schedule, chunk), shapes), on.states)
        else:
            states = on.init(keys, hypers)
        return _Member(number, chunk, on, keys, hypers, states, chunk.first, {})

    def _gathered(self, schedule: chunks.Schedule, chunk: Chunk) -> PyTree:
        """The state of a chunk's lanes at its first update, from the chunks that ended there."""
        width = schedule.widths[chunk.group]
        shapes = checkpoints.kept_shapes(self.plan.groups[chunk.group], width)
        lanes = chunks.padded(chunk, width)
        out = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), shapes)
        missing = set(lanes)
        for number, other in enumerate(schedule.chunks):
            here = {lane: i for i, lane in enumerate(other.lanes)} if other.group == chunk.group else {}
            if other.last != chunk.first or not missing & set(here):
                continue
            kept = self.archive.load(number, shapes, other.last)
            if kept is None:
                raise ValueError(f"chunks: chunk {number} has no sound checkpoint at its end; train the run again")
            to = [i for i, lane in enumerate(lanes) if lane in here]
            source = [here[lanes[i]] for i in to]
            jax.tree.map(lambda x, y: x.__setitem__(to, y[source]), out, kept.state)  # noqa: B023
            missing -= set(here)
        return out


@dataclasses.dataclass
class _Member:
    """A chunk while it is trained."""

    number: int
    chunk: Chunk
    on: programs.Programs
    keys: Any
    hypers: PyTree
    states: PyTree
    at: int  # updates at its beginning
    curves: dict[str, list[np.ndarray]]
    seconds: float = 0.0  # before this process
    finals: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def step(self) -> PyTree:
        self.states, metrics = self.on.step(self.keys, self.states, self.hypers)
        return metrics

    def add(self, metrics: PyTree) -> dict[str, np.ndarray]:
        """Keep the metrics [W, U] of a segment; returns them without the padding."""
        for name, x in metrics.items():
            self.curves.setdefault(name, []).append(np.asarray(x))
        return {name: x[-1][: len(self.chunk.lanes)] for name, x in self.curves.items()}

    def evaluate(self) -> None:
        for kind, outcome in self.on.evaluate(self.keys, self.states, self.hypers).items():
            self.finals[f"final_return_{kind}"] = np.asarray(outcome.episode_return)
            self.finals[f"final_length_{kind}"] = np.asarray(outcome.episode_length)

    def checkpoint(self, update: int, seconds: float) -> Checkpoint:
        state = checkpoints.host(self.states)
        metrics = {name: np.concatenate(x, axis=-1) for name, x in self.curves.items()}
        metrics["finite"] = state.finite[:, None]
        return Checkpoint(update, state, metrics, self.finals, seconds)

"""Trains chunks of lanes, each on one team of devices, and saves their checkpoints."""

import collections
import dataclasses
import math
import threading
import time
from collections.abc import Collection
from typing import Any

import jax
import numpy as np

from pgjax.engine import checkpoints, chunks, memory, programs
from pgjax.engine.checkpoints import Checkpoint
from pgjax.engine.chunks import Chunk
from pgjax.engine.clock import Clock
from pgjax.engine.loggers import Watch
from pgjax.engine.progress import Progress
from pgjax.sweeps.plan import Plan
from pgjax.training import vectorised
from pgjax.types import PyTree

# A run is stopped at the end of a segment, and clusters give 20 seconds between SIGTERM and SIGKILL: a segment that
# took longer than this is cut.
LONGEST = 10.0
SOONEST, SHARE = 5.0, 0.02  # between two checkpoints: seconds, and the share of the time that they may take


class Engine:
    """Trains chunks of a plan on some devices.

    Attributes:
      devices: those of this process.
      teams: lists of devices; each trains a chunk of its own: one device (shard="lanes"), or all of them, which share
        the chunk's environments (shard="envs"). The devices of a CPU are its cores, and any core can run a program of
        the first: so all teams have that one, whose programs are compiled once.
      clock: how long this process compiled, trained and evaluated.
    """

    def __init__(
        self,
        plan: Plan,
        archive: checkpoints.Archive,
        devices: list[Any],
        shard: str,
        every: float | None,
        watch: Watch | None = None,
    ):
        """Args:
        every: seconds between two checkpoints; None makes them as often as they take a small share of the time.
        """
        self.plan, self.archive, self.every, self.watch = plan, archive, every, watch
        if any(group.env.host for group in plan.groups):
            devices = devices[:1]  # all would wait for the same host
        own = devices[:1] * len(devices) if devices[0].platform == "cpu" else devices
        self.devices, self.teams = devices, [[d] for d in own] if shard == "lanes" else [devices]
        self.clock = Clock()
        self.programs: dict[Any, tuple[tuple[int, int], programs.Programs]] = {}  # of a group and devices
        self.longest: dict[int, int] = {}  # group -> updates of a segment, where segments had to be cut
        self.lock = threading.Lock()  # of `watch`
        self.compiling: dict[Any, threading.Lock] = collections.defaultdict(threading.Lock)  # as `programs`

    def compile(self, g: int, width: int, length: int, team: int = 0) -> programs.Programs:
        """The programs of a group for a team, compiled unless it has them."""
        devices = self.teams[team]
        place = g, tuple(devices)
        with self.compiling[place]:
            have = self.programs.get(place)
            if have is not None and have[0] == (width, length):
                return have[1]
            with self.clock("compile_seconds"):
                made = programs.compiled(self.plan.groups[g], width, length, devices)
            if have is not None:
                have[1].close()
            self.programs[place] = (width, length), made
            return made

    def close(self) -> None:
        """Release the simulators of environments that are stepped in Python."""
        for _, one in self.programs.values():
            one.close()
        self.programs.clear()

    def limit(self, needed: float, budget: float | None) -> None:
        """Leave out teams for which there is no memory: each needs so many bytes, and a CPU's share its memory."""
        if self.devices[0].platform == "cpu" and needed > 0:
            self.teams = self.teams[: max(1, int(memory.left(budget) / needed))]

    def train(
        self, schedule: chunks.Schedule, number: int, team: int, keep: Collection[int], bar: Progress, stop: Any
    ) -> bool:
        """Train a chunk from its newest checkpoint to its end.

        Args:
          team: the place of the team that trains it.
          keep: updates whose checkpoints are made and stay.
          stop: a threading.Event; once it is set the chunk is saved at the end of its segment.

        Returns:
          whether the chunk has come to its end.
        """
        chunk = schedule.chunks[number]
        g, group, width = chunk.group, self.plan.groups[chunk.group], schedule.widths[chunk.group]
        final = chunk.last == schedule.updates[g]
        kept = self.archive.measured(number, discard=True)
        at = chunk.first if kept is None else kept.update
        bar.at(number, at - chunk.first)
        if at >= chunk.last and (not final or (kept is not None and kept.finals)):
            return True
        # A segment that was cut before may have left the chunk between two ends of this process's segments.
        length = math.gcd(self.longest.get(g, schedule.segments[g]), at - chunk.first)
        if (g, tuple(self.teams[team])) not in self.programs:
            bar.say(f"compiling for {width} lanes")
        on = self.compile(g, width, length, team)
        if kept is not None:
            kept = self.archive.load(number, checkpoints.kept_shapes(group, width), kept.update, discard=True)
            if kept is None:  # it was damaged, or another worker, which was slow and not dead, has gone on from it
                return self.train(schedule, number, team, keep, bar, stop)
        member = self._begin(schedule, number, kept, on)
        began = saved = time.perf_counter()
        cost, held = 0.0, at

        def save():
            nonlocal saved, cost, held
            tick = time.perf_counter()
            self.archive.save(number, member.checkpoint(at, member.seconds), keep)
            saved, held = time.perf_counter(), at
            cost = saved - tick

        while at < chunk.last:
            if at in keep and at not in self.archive.updates(number):
                save()
            if stop.is_set():
                if at > held:
                    save()
                return False
            began = time.perf_counter()
            with self.clock("train_seconds"):
                metrics = jax.block_until_ready(member.step())
                took = time.perf_counter() - began
                member.seconds += took / self.clock.active["train_seconds"]
            at += length
            shown, count = member.add(metrics), len(chunk.lanes)
            bar.update(number, at - chunk.first, shown, np.asarray(member.states.finite)[:count])
            if self.watch is not None:
                with self.lock:
                    self.watch([{**group.settings[h], "seed": seed} for h, seed in chunk.lanes], at, shown)
            due = max(SOONEST, cost / SHARE) if self.every is None else self.every
            if at < chunk.last and time.perf_counter() - saved >= due:
                save()
            if took > LONGEST and length > 1 and at < chunk.last:
                length = self._cut(g, length, took)
                member.on = self.compile(g, width, length, team)
        if final:
            if time.perf_counter() - saved > LONGEST:
                save()
            began = time.perf_counter()
            with self.clock("evaluate_seconds"):
                member.evaluate()
            member.seconds += time.perf_counter() - began
        save()
        return True

    def _cut(self, g: int, length: int, took: float) -> int:
        """A shorter segment, of at most `LONGEST` seconds: it divides the one that took so long."""
        most = max(1, int(length * LONGEST / took))
        found = max(n for n in range(1, most + 1) if length % n == 0)
        self.longest[g] = min(found, self.longest.get(g, found))
        return found

    def _begin(
        self, schedule: chunks.Schedule, number: int, kept: Checkpoint | None, on: programs.Programs
    ) -> "_Member":
        """A chunk with its states on the devices: from its checkpoint, from other chunks, or newly drawn."""
        chunk = schedule.chunks[number]
        group, width = self.plan.groups[chunk.group], schedule.widths[chunk.group]
        shapes = checkpoints.shapes(group, width)
        place = {seed: i for i, seed in enumerate(schedule.seeds)}  # of the plan as it was, or longer by now
        index = np.array([h * len(place) + place[seed] for h, seed in chunks.padded(chunk, width)])
        every = vectorised.lanes(group.hypers, schedule.seeds, group.config.generator)
        keys, hypers = jax.device_put(jax.tree.map(lambda x: x[index], every), on.lanes)
        if kept is not None:
            curves = {name: [x] for name, x in kept.metrics.items() if name != "finite"}
            states = jax.device_put(checkpoints.device(kept.state, shapes), on.states)
            return _Member(number, chunk, on, keys, hypers, states, curves, kept.seconds)
        if chunk.first:
            states = jax.device_put(checkpoints.device(self._gathered(schedule, chunk), shapes), on.states)
        else:
            states = on.init(keys, hypers)
        return _Member(number, chunk, on, keys, hypers, states, {})

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
    curves: dict[str, list[np.ndarray]]
    seconds: float = 0.0  # of training and evaluating
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

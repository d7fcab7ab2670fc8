"""Chunks of lanes in; trained on one device or many, their checkpoints out. Here time passes."""

import math
import threading
import time
from collections.abc import Collection
from typing import Any, Protocol

import jax
import numpy as np

from pgjax import chunks, memory, programs, results, sweep
from pgjax.checkpoints import Checkpoint
from pgjax.chunks import Chunk
from pgjax.progress import Progress
from pgjax.settings import Plan
from pgjax.types import PyTree


class Watch(Protocol):
    def __call__(self, labels: list[dict[str, Any]], update: int, metrics: dict[str, np.ndarray]) -> None:
        """What the lanes of these labels [L] measured in a segment, [L, U], that ended after `update` updates."""

    def close(self) -> None:
        """Nothing follows."""


class Engine:
    """Trains chunks of a plan on some devices.

    Attributes:
      devices: of this process; each trains a chunk of its own (shard="lanes"), or all train one chunk, its
        environments split between them (shard="envs").
      clock: seconds spent compiling, training and evaluating.
    """

    def __init__(
        self,
        plan: Plan,
        archive: results.Archive,
        devices: list[Any],
        shard: str,
        every: float,
        watch: Watch | None = None,
    ):
        self.watch = watch
        self.plan, self.archive, self.devices, self.shard, self.every = plan, archive, devices, shard, every
        self.clock = {"compile_seconds": 0.0, "train_seconds": 0.0, "evaluate_seconds": 0.0}
        self.programs: dict[int, programs.Programs] = {}
        self.abreast = len(devices) if shard == "lanes" else 1  # chunks at once

    def width(self, g: int, lanes: int, length: int, budget: float | None) -> int:
        """The largest number of lanes for each device that fits the budget, found by compiling.

        Raises:
          ValueError: where not even one lane fits.
        """
        width = math.ceil(lanes / self.abreast)
        while True:
            self.compile(g, width, length)
            needed, spare = self.programs[g].bytes, memory.spare(budget, self.devices)
            if needed <= spare:
                return width
            if width == 1:
                raise ValueError(
                    f"memory: one lane needs {needed / 1e6:.0f} MB and {max(spare, 0) / 1e6:.0f} MB are left; "
                    "give more memory, or fewer environments or steps"
                )
            # What a program needs grows in proportion to its lanes; a little less, so that the next one fits.
            width = max(1, min(width - 1, int(0.95 * width * max(spare, 0.0) / needed)))

    def compile(self, g: int, width: int, length: int) -> None:
        began = time.perf_counter()
        self.programs[g] = programs.compiled(self.plan.groups[g], width, length, self.devices, self.shard)
        self.clock["compile_seconds"] += time.perf_counter() - began

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
        shapes = results.shapes(self.plan.groups[g], schedule.widths[g])
        found: dict[tuple[Chunk, int], list] = {}
        for number in numbers:
            chunk = schedule.chunks[number]
            kept = self.archive.load(number, shapes)
            at = chunk.first if kept is None else kept.update
            done = at == chunk.last and (kept.finals or chunk.last < self.plan.groups[g].updates)
            bar.skip((at - chunk.first) * len(chunk.lanes))
            if not done:
                found.setdefault((chunk.first, chunk.last, at), []).append((number, kept))
        for waiting in found.values():
            for i in range(0, len(waiting), self.abreast):
                if stop.is_set():
                    return
                self._round(schedule, g, waiting[i : i + self.abreast], keep, bar, stop)

    def _round(self, schedule, g, pairs, keep, bar, stop) -> None:
        """Chunks abreast, all at the same update."""
        group, width, length = self.plan.groups[g], schedule.widths[g], schedule.segments[g]
        if g not in self.programs:
            bar.say(f"compiling for {width} lanes")
            self.compile(g, width, length)
        on = self.programs[g]
        members = [schedule.chunks[number] for number, _ in pairs]
        # Where chunks are fewer than devices, the last is trained again on the others, for nothing.
        filled = members + [members[-1]] * (self.abreast - len(members))
        keys, hypers = self._lanes(g, [lane for chunk in filled for lane in chunks.padded(chunk, width)], on)
        first, last, at = members[0].first, members[0].last, members[0].first
        metrics: list[dict[str, list]] = [{} for _ in members]
        if pairs[0][1] is not None:
            at = pairs[0][1].update
            metrics = [{name: [x] for name, x in kept.metrics.items() if name != "finite"} for _, kept in pairs]
            states = self._placed(self._joined([kept.state for _, kept in pairs]), on)
        elif first == 0:
            states = on.init(keys, hypers)
        else:
            states = self._placed(self._joined([self._gathered(schedule, chunk) for chunk in members]), on)
        began = saved = time.perf_counter()
        seconds = [0.0 if kept is None else kept.seconds for _, kept in pairs]

        def save(finals=None):
            held = jax.tree.map(np.asarray, states)
            for i, (number, _) in enumerate(pairs):
                part = slice(i * width, (i + 1) * width)
                mine = jax.tree.map(lambda x, part=part: x[part], held)
                curves = {name: np.concatenate(x, axis=-1) for name, x in metrics[i].items()}
                ended = {name: x[part] for name, x in (finals or {}).items()}
                spent = seconds[i] + (time.perf_counter() - began) / len(pairs)
                curves["finite"] = mine.finite[:, None]
                self.archive.save(number, Checkpoint(at, mine, curves, ended, spent), keep)

        while at < last:
            if at in keep and at not in self.archive.updates(pairs[0][0]):
                save()
            if stop.is_set():
                break
            tick = time.perf_counter()
            states, seen = jax.block_until_ready(on.step(keys, states, hypers))
            self.clock["train_seconds"] += time.perf_counter() - tick
            at += length
            seen = {name: np.asarray(x) for name, x in seen.items()}
            for i in range(len(members)):
                for name, x in seen.items():
                    metrics[i].setdefault(name, []).append(x[i * width : (i + 1) * width])
            real = np.concatenate([i * width + np.arange(len(c.lanes)) for i, c in enumerate(members)])
            shown = {name: x[real] for name, x in seen.items()}
            bar.update(length * len(real), pairs[0][0], shown, np.asarray(states.finite)[real])
            if self.watch is not None:
                lanes = [lane for chunk in members for lane in chunk.lanes]
                self.watch([{**group.settings[h], "seed": seed} for h, seed in lanes], at, shown)
            if at < last and (time.perf_counter() - saved >= self.every or stop.is_set()):
                save()
                saved = time.perf_counter()
        if at < last:
            return
        finals = {}
        if last == group.updates:
            tick = time.perf_counter()
            for kind, outcome in on.evaluate(keys, states, hypers).items():
                finals[f"final_return_{kind}"] = np.asarray(outcome.episode_return)
                finals[f"final_length_{kind}"] = np.asarray(outcome.episode_length)
            self.clock["evaluate_seconds"] += time.perf_counter() - tick
        save(finals)

    def _lanes(self, g: int, lanes: list[chunks.Lane], on: programs.Programs) -> tuple[Any, PyTree]:
        """Keys and Hypers of lanes, on their devices."""
        group, seeds = self.plan.groups[g], self.plan.seeds
        place = {seed: i for i, seed in enumerate(seeds)}
        index = np.array([h * len(seeds) + place[seed] for h, seed in lanes])
        return jax.device_put(jax.tree.map(lambda x: x[index], sweep.lanes(group.hypers, seeds)), on.lanes)

    def _gathered(self, schedule: chunks.Schedule, chunk: Chunk) -> PyTree:
        """The state of a chunk's lanes at its first update, from the chunks that ended there."""
        width = schedule.widths[chunk.group]
        shapes = results.shapes(self.plan.groups[chunk.group], width)
        lanes = chunks.padded(chunk, width)
        out = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), shapes)
        missing = set(lanes)
        for number, other in enumerate(schedule.chunks):
            here = {lane: i for i, lane in enumerate(other.lanes)} if other.group == chunk.group else {}
            if other.last != chunk.first or not missing & set(here):
                continue
            kept = self.archive.load(number, shapes, other.last)
            to = [i for i, lane in enumerate(lanes) if lane in here]
            source = [here[lanes[i]] for i in to]
            jax.tree.map(lambda x, y: x.__setitem__(to, y[source]), out, kept.state)  # noqa: B023
            missing -= set(here)
        return out

    def _joined(self, states: list[PyTree]) -> PyTree:
        states = states + [states[-1]] * (self.abreast - len(states))
        return jax.tree.map(lambda *x: np.concatenate(x), *states)

    def _placed(self, states: PyTree, on: programs.Programs) -> PyTree:
        return jax.tree.map(jax.device_put, states, on.states)

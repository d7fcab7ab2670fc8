"""Runs the chunks of a measurement on the devices, and merges their moments into a `Stream`.

Each chunk is measured on a device, and merged on the host in float64; nothing is squared before its centre was
taken off. What grows with the number of chunks is two numbers for each estimate and one for each episode, for tails.
"""

import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from pgjax.types import Array, PyTree, Trajectory
from pgjax.variance.estimators.custom import Sampler
from pgjax.variance.measurement import measure, streaming_moments
from pgjax.variance.measurement.measure import Inputs, Setup

_RATIO = object()  # beside the estimators' names, none of which it can be


FOLDS = 32  # parts of the sample for jackknife errors and the test of bias, at most


class Stream(NamedTuple):
    """The moments of all chunks, on the host; float64 where no other type is given."""

    levels: dict[int, Any]
    parameters: dict[str, Any]
    metrics: dict[str, Any]
    folds: np.ndarray  # [F, K, P] mean gradient of each fold
    errors: np.ndarray  # [F, K, L] mean squared deviation of single estimates from their targets, by layer
    lengths: np.ndarray  # [F]
    counts: np.ndarray  # [F] episodes
    episodes: int
    squares: dict[str, np.ndarray]  # float32 [2, N / batch] of single estimates: see `measure.squares`
    ratios: np.ndarray  # float32 [N] of each episode's probability under the measured policy to that under the actors'

    @property
    def mean(self) -> np.ndarray:
        """[K, P]"""
        return np.einsum("f,fkp->kp", self.counts, self.folds) / self.counts.sum()


class Program:
    """The compiled chunk of a setup: one on each device, the same program whatever their number."""

    def __init__(self, setup: Setup, devices: list[Any]) -> None:
        self.setup, self.devices = setup, devices
        mesh, each = Mesh(np.array(devices), ("chunk",)), PartitionSpec("chunk")
        self._put = functools.partial(jax.device_put, device=jax.sharding.NamedSharding(mesh, each))

        def over(function, specs):
            # Each device works on its own chunk; no gradient is summed over devices.
            def one(*args):
                alone = [jax.tree.map(lambda x: x[0], a) for a in args]
                return jax.tree.map(lambda x: x[None], function(*alone))

            return jax.shard_map(one, mesh=mesh, in_specs=specs, out_specs=each, check_vma=False)

        def sample(key, behaviour):
            trajectory, states = measure.sample(setup, key, behaviour)
            return trajectory, states, jnp.sum(trajectory.mask, axis=0).max()

        self._sample = jax.jit(over(sample, (each, each)))

        @functools.partial(jax.jit, static_argnums=4)
        def measured(key, inputs, trajectory, states, steps):
            def one(key, inputs, trajectory, states):
                return measure.measure(setup, key, inputs, *_cut(trajectory, states, steps))

            return over(one, (each, each, each, each))(key, inputs, trajectory, states)

        self._measure = measured
        self._level = jax.jit(
            lambda x, target, ascent: streaming_moments.moments(streaming_moments.statistics(x, target, ascent))
        )

    def _round(self, key: Array, first: int, inputs: Inputs) -> dict[str, Any]:
        """One chunk on every device, the key of chunk j being fold_in(key, j) wherever it runs; [D, ...]."""
        chunks = first + jnp.arange(len(self.devices))
        pairs = jax.vmap(lambda j: jax.random.split(jax.random.fold_in(key, j)))(chunks)
        trajectory, states, longest = self._sample(self._put(pairs[:, 0]), inputs.behaviour)
        steps = _horizon(trajectory.mask.shape[1], int(longest.max()))
        return self._measure(self._put(pairs[:, 1]), inputs, trajectory, states, steps)

    def _replicate(self, inputs: Inputs) -> Inputs:
        count = len(self.devices)
        return self._put(jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *jnp.shape(x))), inputs))

    def __call__(self, key: Array, inputs: Inputs, episodes: int, progress: Callable[[float], None]) -> Stream:
        setup, chunk = self.setup, self.setup.chunk
        rounds = math.ceil(episodes / (chunk * len(self.devices)))
        number, rounds = _folds(rounds, len(self.devices))
        above = [level for level in setup.levels if level > chunk]
        waiting: dict[int, tuple[int, Any]] = {level: (0, 0.0) for level in above}
        total: dict[str, Any] = {}
        folds: list[tuple[Any, ...]] = []
        singles: list[dict[Any, np.ndarray]] = []
        spread = self._replicate(inputs)
        done = 0
        for i in range(rounds):
            found = jax.tree.map(np.asarray, self._round(key, i * len(self.devices), spread))
            for d in range(len(self.devices)):
                one = jax.tree.map(lambda x: x[d], found)  # noqa: B023
                mean = one.pop("mean")
                singles.append({**one.pop("squares"), _RATIO: one.pop("ratios")})
                errors = np.stack([one["parameters"][name]["layer"]["mean"] for name in setup.estimators])
                fold = (mean.astype(np.float64), errors.astype(np.float64), float(one["metrics"]["length"]["mean"]), 1)
                if done < number:
                    folds.append(fold)
                else:
                    folds[done % number] = tuple(a + b for a, b in zip(folds[done % number], fold, strict=True))
                done += 1
                for level, (count, total_mean) in waiting.items():
                    waiting[level] = (count + 1, total_mean + mean.astype(np.float64))
                    if (count + 1) * chunk == level:
                        batch = (waiting[level][1] / (count + 1)).astype(np.float32)[None]
                        one["levels"][level] = self._level(batch, inputs.target, inputs.ascent)
                        waiting[level] = (0, 0.0)
                total = _merged(total, one) if total else one
            progress((i + 1) / rounds)
        counts = np.array([f[3] for f in folds], float)
        means, errors, lengths = (np.stack([f[j] / f[3] for f in folds]) for j in range(3))
        # One name at a time, each of which is then held once; in float64 they would be as large again.
        single = {name: np.concatenate([one.pop(name) for one in singles], axis=-1) for name in [*singles[0]]}
        return Stream(
            levels=total["levels"],
            parameters=total["parameters"],
            metrics=total["metrics"],
            folds=means,
            errors=errors,
            lengths=lengths,
            counts=counts * chunk,
            episodes=done * chunk,
            ratios=single.pop(_RATIO),
            squares=single,
        )

    def seconds(self, key: Array, inputs: Inputs, repeats: int = 5) -> tuple[float, float]:
        """Seconds of one episode, sampled and made a gradient, statistics left out: the mean, its standard error."""
        setup = self.setup
        sample = jax.jit(lambda key, behaviour: measure.sample(setup, key, behaviour))

        @functools.partial(jax.jit, static_argnums=4)
        def gradients(key, inputs, trajectory, states, steps):
            return measure.gradients(setup, key, inputs, *_cut(trajectory, states, steps))[0]

        # A Sampler draws its own episodes: one trajectory serves for the shapes.
        (own,) = setup.estimators.values()
        kept = sample(key, inputs.behaviour) if isinstance(own, Sampler) else None
        times = []
        for i in range(repeats + 1):
            key_sample, key_rest = jax.random.split(jax.random.fold_in(key, i))
            began = time.perf_counter()
            trajectory, states = sample(key_sample, inputs.behaviour) if kept is None else kept
            steps = _horizon(trajectory.mask.shape[0], int(trajectory.mask.sum(axis=0).max()))
            jax.block_until_ready(gradients(key_rest, inputs, trajectory, states, steps))
            times.append((time.perf_counter() - began) / setup.chunk)
        times = times[1:]  # the first compiles
        return float(np.mean(times)), float(np.std(times, ddof=1) / math.sqrt(repeats))


def _folds(rounds: int, devices: int) -> tuple[int, int]:
    """(folds, rounds): folds of equal numbers of chunks, and as few rounds more than asked as that takes."""
    if rounds * devices <= FOLDS:
        return rounds * devices, rounds
    # The number of chunks must be a multiple of the folds, and of the devices.
    needed = {
        f: math.ceil(rounds * devices / math.lcm(f, devices)) * math.lcm(f, devices) for f in range(24, FOLDS + 1)
    }
    folds = min(needed, key=lambda f: (needed[f], -f))
    return folds, needed[folds] // devices


def _horizon(limit: int, longest: int) -> int:
    """Rows to look at: few different numbers, so that few programs are compiled, and few rows after all ends."""
    return min((n for n in (four(limit / 16), four(limit / 4)) if longest <= n < limit), default=limit)


def _cut(trajectory: Trajectory, states: PyTree, steps: int) -> tuple[Trajectory, PyTree]:
    kept, states = jax.tree.map(lambda x: x[:steps], (trajectory._replace(memory=()), states))
    return kept._replace(memory=trajectory.memory), states


def four(steps: float) -> int:
    """The least multiple of 4 that is `steps` or more, and at least 4."""
    return max(4, 4 * math.ceil(steps / 4))


def _merged(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    out = {name: streaming_moments.merge(a[name], b[name]) for name in ("parameters", "metrics")}
    levels = {
        level: streaming_moments.merge(a["levels"][level], x)
        for level, x in b["levels"].items()
        if level in a["levels"]
    }
    return {**out, "levels": {**a["levels"], **b["levels"], **levels}}

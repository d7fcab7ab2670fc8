"""Training in environments that are stepped in Python, on the host; the results are those of `vectorised`.

Each step calls the compiled `host_programs.act` and then steps L x B environments in numpy; each update ends with the
compiled `host_programs.learn`. No compiled program calls back into Python: on few cores such a call may wait for ever.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np

from pgjax import rollout
from pgjax.numerics import time_limits
from pgjax.rollout import row
from pgjax.training.host_programs import Draw
from pgjax.types import Array, Hypers, PyTree, Step, Trajectory


class Simulators(Protocol):
    """N environments, as `Env.host(N)` returns them; numpy arrays of the types that `Env.reset` and `step` show.

    They truncate an episode at `Env.max_steps`. They may write into their arrays again, since `Worlds` copies them.
    """

    def reset(self, seeds: np.ndarray) -> PyTree:
        """The first observations [N, ...] of new episodes, with these seeds [N], uint32."""

    def step(self, action: PyTree) -> tuple[PyTree, Step]:
        """The next observations [N, ...], after a reset where an episode ended; and the Step [N], before any reset."""

    def close(self) -> None:
        """Releases the simulators."""


Host = Callable[[int], Simulators]  # as `Env.host`
Act = Callable[..., tuple[Array, Array, PyTree]]  # its arguments are listed where one is taken


class Worlds:
    """N of an Env's `Simulators`, with copies of all arrays on the way in and out, so that no array changes later.

    Raises:
      ValueError: in `step`, where an episode goes on past `Env.max_steps`: evaluation ends there, so training would see
        longer episodes than evaluation.
    """

    def __init__(self, host: Host, max_steps: int, count: int):
        self.limit, self.simulators, self.time = max_steps, host(count), np.zeros(count, np.int32)

    def reset(self, seeds: np.ndarray) -> PyTree:
        self.time = np.zeros(len(seeds), np.int32)
        return _copied(self.simulators.reset(np.array(seeds)))

    def step(self, action: PyTree) -> tuple[PyTree, Step]:
        obs, seen = _copied(self.simulators.step(_copied(action)))
        seen = seen._replace(
            reward=seen.reward.astype(np.float32),
            truncated=seen.truncated & ~seen.terminated,
        )
        self.time = np.where(seen.terminated | seen.truncated, 0, self.time + 1)
        if np.any(self.time >= self.limit):
            raise ValueError(f"max_steps={self.limit}, and the simulators of env.host went on; let them truncate there")
        return obs, seen

    def close(self) -> None:
        self.simulators.close()


class Training:
    """`Programs.step`: (keys, states, hypers) -> (states, metrics [L, U]), U = `length` updates of every lane.

    The environments of a stream continue from one call to the next if the states are the ones that the previous call
    returned; otherwise they begin new episodes.

    Args:
      host, max_steps: of the Env; num_steps: T.
      draw: (keys, updates) -> Draw; act: (keys, t, states, memory, time, obs) -> (action, log_prob, memory);
        learn: (keys, states, hypers, stream, rows) -> (states, metrics): the compiled ones of `host_programs`.
      memory: the shapes [L, B, ...] of the policy's memory.
    """

    def __init__(
        self,
        host: Host,
        max_steps: int,
        num_steps: int,
        length: int,
        draw: Callable[[Array, Array], Draw],
        act: Act,
        learn: Callable[..., tuple[PyTree, dict[str, Array]]],
        memory: PyTree,
    ):
        self.host, self.max_steps, self.num_steps, self.length = host, max_steps, num_steps, length
        self.draw, self.act, self.learn = draw, act, learn
        self.memory = _zeros(memory)
        self.worlds: _Lanes | None = None
        self.last: Array | None = None  # the number of updates [L] of the states returned last

    def __call__(self, keys: Array, states: PyTree, hypers: Hypers) -> tuple[PyTree, dict[str, np.ndarray]]:
        try:
            return self._updates(keys, states, hypers)
        except BaseException:  # the simulators stand wherever they stood
            self.close()
            raise

    def _updates(self, keys: Array, states: PyTree, hypers: Hypers) -> tuple[PyTree, dict[str, np.ndarray]]:
        found = []
        for _ in range(self.length):
            drawn = self.draw(keys, states.updates)
            worlds = self.worlds = self.worlds or _Lanes(self.host, self.max_steps, *drawn.seeds.shape)
            gather = self._stream if states.learner.rollout else self._episodes
            stream, rows = gather(worlds, drawn, states)
            states, metrics = self.learn(keys, states, hypers, stream, rows)
            self.last = states.updates
            found.append(metrics)
        return states, jax.tree.map(lambda *x: np.concatenate(x, axis=1), *found)

    def close(self) -> None:
        if self.worlds:
            self.worlds.close()
        self.worlds = self.last = None

    def _stream(self, worlds: "_Lanes", drawn: Draw, states: PyTree) -> tuple[PyTree, Trajectory]:
        """A stream, as `rollout.unroll` makes it."""
        # Copies, since `learn` donates the state's own arrays.
        now = jax.tree.map(np.array, states.learner.rollout._replace(memory=()))
        memory = states.learner.rollout.memory
        if states.updates is not self.last:
            nothing = {name: np.zeros_like(getattr(now, name)) for name in ("time", "running_return")}
            now = now._replace(obs=worlds.reset(drawn.seeds), **nothing)
        rows = []
        for t in range(self.num_steps):
            action, log_prob, memory = self.act(drawn.keys, np.int32(t), states.learner, memory, now.time, now.obs)
            obs, seen = worlds.step(action)
            rows.append(row(now.obs, now.time, action, log_prob, seen, np.ones(now.time.shape, np.float32)))
            done = seen.terminated | seen.truncated
            running, time = now.running_return + seen.reward, now.time + 1
            now = now._replace(
                obs=obs,
                time=np.where(done, 0, time).astype(np.int32),
                running_return=np.where(done, 0, running).astype(np.float32),
                last_return=np.where(done, running, now.last_return).astype(np.float32),
                last_length=np.where(done, time, now.last_length).astype(np.float32),
                completed=now.completed + np.sum(done, axis=1, dtype=np.float32),
            )
        return now._replace(memory=memory), _stacked(rows)

    def _episodes(self, worlds: "_Lanes", drawn: Draw, states: PyTree) -> tuple[PyTree, Trajectory]:
        """Whole episodes, as `rollout.episodes` makes them."""
        choose = lambda t, *now: self.act(drawn.keys, t, states.learner, *now)  # noqa: E731
        rows = list(_play(worlds, drawn.seeds, choose, self.memory, self.num_steps))
        ends = ("reward", "terminated", "truncated", "mask")
        # After the end of all its episodes a lane has the same rows whatever other lanes do.
        after = rows[0]._replace(**{name: np.zeros_like(getattr(rows[0], name)) for name in ends})
        rows = [_where(np.any(x.mask > 0, axis=1), x, after) for x in rows]
        return (), _stacked(rows + [after] * (self.num_steps - len(rows)))


class Evaluation:
    """`Programs.evaluate`: (keys, states, hypers) -> Episodes of [L, B], "stochastic" and "greedy".

    Args:
      host, max_steps: of the Env.
      draw: keys -> both Draws; act: (keys, t, states, memory, time, obs, greedy) -> (action, log_prob, memory).
      memory: the shapes [L, B, ...] of the policy's memory.
    """

    def __init__(
        self, host: Host, max_steps: int, draw: Callable[[Array], tuple[Draw, Draw]], act: Act, memory: PyTree
    ):
        self.host, self.max_steps, self.draw, self.act = host, max_steps, draw, act
        self.memory = _zeros(memory)

    def __call__(self, keys: Array, states: PyTree, hypers: Hypers) -> dict[str, rollout.Episodes]:
        both = self.draw(keys)
        with contextlib.closing(_Lanes(self.host, self.max_steps, *both[0].seeds.shape)) as worlds:
            found = [self._episodes(worlds, drawn, states, np.bool_(kind)) for kind, drawn in enumerate(both)]
        return {"stochastic": found[0], "greedy": found[1]}

    def _episodes(self, worlds: "_Lanes", drawn: Draw, states: PyTree, greedy: np.bool_) -> rollout.Episodes:
        """Returns and lengths, as `rollout.evaluate` gives them."""
        choose = lambda t, *now: self.act(drawn.keys, t, states.learner, *now, greedy)  # noqa: E731
        earned: Any = np.zeros(worlds.shape, np.float32)
        taken = earned
        for seen in _play(worlds, drawn.seeds, choose, self.memory, self.max_steps):
            earned, taken = earned + seen.reward, taken + seen.mask
        return rollout.Episodes(earned, taken)


def _play(worlds: "_Lanes", seeds: Array, choose: Act, memory: PyTree, limit: int) -> Iterator[Trajectory]:
    """The rows [L, B] of whole episodes, until all have ended; an episode that has ended no longer moves or counts.

    Args:
      choose: (t, memory, time, obs) -> (action, log_prob, memory).
    """
    obs = worlds.reset(seeds)
    alive, time = np.ones(worlds.shape, bool), np.zeros(worlds.shape, np.int32)
    for t in range(limit):
        action, log_prob, memory = choose(np.int32(t), memory, time, obs)
        seen = time_limits.cut(worlds.step(action)[1], t, limit)
        seen = Step(
            obs=_where(alive, seen.obs, obs),
            reward=_where(alive, seen.reward, np.float32(0)),
            terminated=seen.terminated & alive,
            truncated=seen.truncated & alive,
        )
        yield row(obs, time, action, log_prob, seen, alive.astype(np.float32))
        obs, time, alive = seen.obs, time + alive, alive & ~(seen.terminated | seen.truncated)
        if not alive.any():
            return


class _Lanes:
    """L x B environments as one vector of simulators, with arrays [L, B, ...]."""

    def __init__(self, host: Host, max_steps: int, lanes: int, num_envs: int):
        self.shape, self.worlds = (lanes, num_envs), Worlds(host, max_steps, lanes * num_envs)

    def reset(self, seeds: Array) -> PyTree:
        return self._split(self.worlds.reset(np.asarray(seeds).reshape(-1)))

    def step(self, action: PyTree) -> tuple[PyTree, Step]:
        return self._split(self.worlds.step(jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), action)))

    def close(self) -> None:
        self.worlds.close()

    def _split(self, tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: x.reshape(*self.shape, *x.shape[1:]), tree)


def _copied(tree: PyTree) -> PyTree:
    return jax.tree.map(np.array, tree)


def _zeros(shapes: PyTree) -> PyTree:
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


def _stacked(rows: list[Trajectory]) -> Trajectory:
    """[L, T, B, ...] of T rows [L, B, ...]."""
    return jax.tree.map(lambda *x: np.stack(x, axis=1), *rows)


def _where(condition: np.ndarray, this: PyTree, that: PyTree) -> PyTree:
    """Selects per lane or environment, as `rollout.where` does."""

    def pick(a, b):
        return np.where(condition.reshape(condition.shape + (1,) * (a.ndim - condition.ndim)), a, b)

    return jax.tree.map(pick, this, that)

"""Steps Gymnasium environments in this process and in others beside it, all of which write into the same arrays.

Run as a program it is such a process, and so it imports neither JAX nor the rest of this package. It ends with the
process that started it.
"""

import contextlib
import mmap
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

RESET, STEP = b"r", b"s"
WELL, ERROR = b"w", b"e"
PATIENCE = 5.0  # seconds in which a process must have closed its environments
LENGTH = 8  # bytes that tell how many follow


class Rows(NamedTuple):
    """What goes in and out of N environments: arrays [N, ...], and trees of them as their spaces are."""

    seeds: Any
    action: Any
    obs: Any  # after a reset where an episode ended
    last: Any  # before it
    reward: Any
    terminated: Any
    truncated: Any


class Block:
    """Environments that are stepped one after the other; `limit` steps end an episode."""

    def __init__(self, worlds: list[Any], limit: int, rows: Rows):
        self.worlds, self.limit, self.rows, self.time = worlds, limit, rows, [0] * len(worlds)

    def reset(self) -> None:
        for i, world in enumerate(self.worlds):
            self.time[i] = 0
            _put(self.rows.obs, i, world.reset(seed=int(self.rows.seeds[i]))[0])

    def step(self) -> None:
        _, action, shown, last, reward, terminated, truncated = self.rows
        for i, world in enumerate(self.worlds):
            # The arrays are copied at once, since an environment may write into its own again.
            obs, reward[i], ended, cut, _ = world.step(_row(action, i))
            _put(last, i, obs)
            self.time[i] += 1
            terminated[i], truncated[i] = ended, cut or self.time[i] >= self.limit
            if terminated[i] or truncated[i]:
                self.time[i], (obs, _) = 0, world.reset()
            _put(shown, i, obs)

    def close(self) -> None:
        for world in self.worlds:
            world.close()


class Beside:
    """A block in a process of its own: `begin` has it work, and `end` waits until it has."""

    def __init__(self, build: bytes, count: int, limit: int, memory: "Shared", first: int):
        """Args:
        build: the pickled function that makes an environment; count: how many; first: the row of the first.
        """
        self.first, self.asked = first, True
        ours, theirs = os.pipe(), os.pipe()
        command = [sys.executable, "-P", __file__, str(theirs[0]), str(ours[1]), str(memory.file.fileno())]
        ends = (theirs[0], ours[1], memory.file.fileno())
        # In a session of its own, since a signal to this process's group is this process's to heed.
        try:
            self.process = subprocess.Popen(command, pass_fds=ends, start_new_session=True)
        except BaseException:
            for end in (*ours, *theirs):
                os.close(end)
            raise
        self.read, self.write = os.fdopen(ours[0], "rb", 0), os.fdopen(theirs[1], "wb", 0)
        for end in (theirs[0], ours[1]):
            os.close(end)
        _send(self.write, pickle.dumps(sys.path))
        _send(self.write, pickle.dumps((build, count, limit, memory.layout, first)))

    def begin(self, what: bytes) -> None:
        self.asked = True
        with contextlib.suppress(OSError):  # the process has died, as `end` says
            self.write.write(what)

    def end(self) -> None:
        """Wait.

        Raises:
          RuntimeError: where an environment raised, with its traceback, and where the process is gone.
        """
        if not self.asked:
            return
        said, self.asked = self.read.read(1), False
        if said == ERROR:
            error, text = pickle.loads(_received(self.read))
            raise RuntimeError(f"{error}\n\n{text}")
        if said != WELL:
            raise RuntimeError(f"a process that steps environments has died (exit code {self.process.wait()})")

    def leave(self) -> None:
        """Let the process close its environments and end."""
        self.write.close()

    def close(self, until: float) -> None:
        """Wait for that until a time of time.monotonic."""
        self.leave()
        try:
            self.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:  # an environment that takes long for a step, or never ends one
            self.process.kill()
            self.process.wait()
        self.read.close()


class Shared:
    """The memory of `Rows` that several processes write into."""

    def __init__(self, layout: Any, count: int, file: Any = None):
        """Args:
        layout: Rows of (shape, dtype) without the leading N, or trees of them; file: None makes one.
        """
        # A plain tuple, since the other process imports nothing of this package.
        self.layout, size = (tuple(layout), count), sum(_size(leaf, count) for leaf in _leaves(layout))
        self.file = _file(size) if file is None else file
        memory, at = mmap.mmap(self.file.fileno(), size), 0

        def array(leaf: tuple[Any, Any]) -> np.ndarray:
            nonlocal at
            (shape, dtype), start = leaf, at
            at += _size(leaf, count)
            return np.ndarray((count, *shape), dtype, memory, start)

        self.rows = Rows(*(_mapped(array, part) for part in layout))


def plain(layout: Any, count: int) -> Rows:
    """Arrays of this process alone."""
    return Rows(*(_mapped(lambda leaf: np.zeros((count, *leaf[0]), leaf[1]), part) for part in layout))


def part_of(rows: Rows, first: int, count: int) -> Rows:
    """The rows of some of the environments, which share their memory."""
    return Rows(*(_mapped(lambda x: x[first : first + count], part) for part in rows))


def fill(into: Any, values: Any) -> None:
    """Copy a tree of arrays into another."""
    if isinstance(into, dict):
        for name, part in into.items():
            fill(part, values[name])
    elif type(into) is tuple:
        for part, value in zip(into, values, strict=True):
            fill(part, value)
    else:
        np.copyto(into, values)


def _file(size: int) -> Any:
    """A file in memory where there are such; on a disk its blocks are taken at once, as a full one would kill later."""
    if hasattr(os, "memfd_create"):
        memory = os.fdopen(os.memfd_create("pgjax"), "r+b", 0)
        memory.truncate(size)
        return memory
    file = tempfile.TemporaryFile()
    file.truncate(size)
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    return file


def _is_leaf(x: Any) -> bool:
    """Whether it is an array, or the (shape, dtype) of one."""
    return isinstance(x, np.ndarray) or (type(x) is tuple and len(x) == 2 and isinstance(x[1], np.dtype))


def _mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    if _is_leaf(tree):
        return function(tree)
    if isinstance(tree, dict):
        return {name: _mapped(function, part) for name, part in tree.items()}
    return tuple(_mapped(function, part) for part in tree)


def _leaves(layout: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    for part in layout:
        _mapped(found.append, part)
    return found


def _size(leaf: tuple[Any, Any], count: int) -> int:
    """Bytes, such that what follows is aligned."""
    return -(-int(np.prod(leaf[0], dtype=int)) * count * leaf[1].itemsize // 64) * 64


def _row(tree: Any, i: int) -> Any:
    if isinstance(tree, np.ndarray):
        found = tree[i]
        return found.copy() if isinstance(found, np.ndarray) else found  # an environment may keep it
    if isinstance(tree, dict):
        return {name: _row(part, i) for name, part in tree.items()}
    return tuple(_row(part, i) for part in tree)


def _put(tree: Any, i: int, value: Any) -> None:
    if isinstance(tree, np.ndarray):
        if np.shape(value) != tree.shape[1:]:
            raise ValueError(f"an observation has shape {np.shape(value)}, and its space {tree.shape[1:]}")
        if tree.dtype.kind in "iub" and not np.can_cast(np.asarray(value).dtype, tree.dtype, "same_kind"):
            raise ValueError(f"an observation is of type {np.asarray(value).dtype}, and its space of {tree.dtype}")
        tree[i] = value
    elif isinstance(tree, dict):
        for name, part in tree.items():
            _put(part, i, value[name])
    else:
        for part, x in zip(tree, value, strict=True):
            _put(part, i, x)


def _send(stream: Any, what: bytes) -> None:
    data = memoryview(len(what).to_bytes(LENGTH, "little") + what)
    while data:
        data = data[stream.write(data) :]


def _received(stream: Any) -> bytes:
    def exactly(count: int) -> bytes:
        found = b""
        while len(found) < count:
            if not (more := stream.read(count - len(found))):
                raise EOFError
            found += more
        return found

    return exactly(int.from_bytes(exactly(LENGTH), "little"))


def _serve(read: Any, write: Any, file: Any) -> None:
    """Make the environments, and reset or step them as told, until the other end closes."""
    block: Block | None = None

    def built() -> Block:
        sys.path[:] = pickle.loads(_received(read))
        build, count, limit, (layout, every), first = pickle.loads(_received(read))
        make, rows = pickle.loads(build), part_of(Shared(layout, every, file).rows, first, count)
        return Block([make() for _ in range(count)], limit, rows)

    try:
        while block is None or (what := read.read(1)):
            try:
                if block is None:
                    block = built()
                else:
                    {RESET: block.reset, STEP: block.step}[what]()
                write.write(WELL)
            except Exception as error:
                write.write(ERROR)
                _send(write, pickle.dumps((f"{type(error).__name__}: {error}", traceback.format_exc())))
                if block is None:
                    return
    finally:
        if block is not None:
            block.close()


if __name__ == "__main__":
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # it ends with the process that started it
        signal.signal(one, signal.SIG_IGN)
    files = []
    for fd, mode in zip(sys.argv[1:], ("rb", "wb", "r+b"), strict=True):
        os.set_inheritable(int(fd), False)
        files.append(os.fdopen(int(fd), mode, 0))
    _serve(*files)

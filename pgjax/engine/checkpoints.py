"""Writes the states and metrics of a chunk as checkpoints, each complete or absent, and reads the newest sound one.

chunks/00003/update-00000400/state.npz      the TrainState of every lane [W], by the paths of its tree
chunks/00003/update-00000400/metrics.npz    the metrics since the chunk began, and its evaluation
chunks/00003/update-00000400/manifest.json  the digest of every file above
"""

import hashlib
import json
import os
import pathlib
import shutil
import sys
import zipfile
from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.engine.files import replace
from pgjax.sweeps.group import Group
from pgjax.training import loop
from pgjax.types import PyTree

FILES = ("state.npz", "metrics.npz")


class Checkpoint(NamedTuple):
    """The lanes of a chunk after `update` updates; numpy arrays [W, ...]."""

    update: int
    state: PyTree
    metrics: dict[str, np.ndarray]  # [W, U] of the updates since the chunk's first
    finals: dict[str, np.ndarray]  # [W, E] of the evaluation after training; {} before it
    seconds: float = 0.0  # of training and evaluating the chunk


class Memory:
    """Checkpoints in memory, for a run without a folder; its methods are those of `Folder`."""

    def __init__(self):
        self.kept: dict[int, dict[int, Checkpoint]] = {}

    def save(self, index: int, checkpoint: Checkpoint, keep: Collection[int] = ()) -> None:
        held = self.kept.setdefault(index, {})
        self.kept[index] = {u: c for u, c in held.items() if u in keep} | {checkpoint.update: checkpoint}

    def load(self, index: int, like: PyTree, update: int | None = None) -> Checkpoint | None:
        held = self.kept.get(index, {})
        return held.get(max(held, default=0) if update is None else update)

    def updates(self, index: int) -> list[int]:
        return sorted(self.kept.get(index, {}))

    def measured(self, index: int, discard: bool = False) -> Checkpoint | None:
        return self.load(index, None)


class Folder:
    """Checkpoints in a folder of the disk, one folder for each chunk."""

    def __init__(self, path: pathlib.Path):
        self.path = path

    def save(self, index: int, checkpoint: Checkpoint, keep: Collection[int] = ()) -> None:
        """Write a checkpoint, then remove all but the two newest and those of the updates `keep`.

        Raises:
          OSError: where it can't be written; the checkpoints before it are unchanged.
        """
        place = self._place(index, checkpoint.update)
        for left in place.parent.glob(".update-*"):  # of a process that was killed as it wrote
            shutil.rmtree(left, ignore_errors=True)
        draft = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            draft.mkdir(parents=True)
            np.savez(draft / "state.npz", **_named(checkpoint.state))
            arrays: dict[str, Any] = {f"metrics/{k}": v for k, v in checkpoint.metrics.items()}
            arrays |= {f"finals/{k}": v for k, v in checkpoint.finals.items()}
            np.savez(draft / "metrics.npz", **arrays)
            manifest = {
                "update": checkpoint.update,
                "seconds": checkpoint.seconds,
                "files": {x: _digest(draft / x) for x in FILES},
            }
            (draft / "manifest.json").write_text(json.dumps(manifest))
            replace(draft, place)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        for update in self.updates(index)[:-2]:
            if update not in keep:
                shutil.rmtree(self._place(index, update), ignore_errors=True)

    def load(self, index: int, like: PyTree, update: int | None = None) -> Checkpoint | None:
        """The newest sound checkpoint, or that after `update` updates; None where there is none.

        Args:
          like: the state as `host` has it, or its shapes [W, ...] and dtypes.
        """
        found = self._sound(index, update)
        if found is None:
            return None
        place, measured = found
        with np.load(place / "state.npz") as arrays:
            kept = {name: arrays[name] for name in arrays.files}
        wanted = {name: (x.shape, x.dtype) for name, x in _named(like).items()}
        if {name: (x.shape, x.dtype) for name, x in kept.items()} != wanted:
            raise ValueError(_unfit(place, {name: (x.shape, x.dtype) for name, x in kept.items()}, wanted))
        state = jax.tree_util.tree_map_with_path(lambda path, _: kept[jax.tree_util.keystr(path)], like)
        return measured._replace(state=state)

    def measured(self, index: int, discard: bool = False) -> Checkpoint | None:
        """The newest sound checkpoint without its state.

        Args:
          discard: remove damaged checkpoints, as the process that trains the chunk may.
        """
        found = self._sound(index, None, discard)
        return None if found is None else found[1]

    def updates(self, index: int) -> list[int]:
        """The numbers of updates after which there are checkpoints, in order."""
        found = (place.name.removeprefix("update-") for place in self._folder(index).glob("update-*") if place.is_dir())
        # Other files, such as a copy or those of a file manager, are ignored.
        return sorted(int(text) for text in found if text.isdecimal() and f"{int(text):08}" == text)

    def _folder(self, index: int) -> pathlib.Path:
        return self.path / f"{index:05}"

    def _place(self, index: int, update: int) -> pathlib.Path:
        return self._folder(index) / f"update-{update:08}"

    def _sound(self, index: int, update: int | None, discard: bool = False) -> tuple[pathlib.Path, Checkpoint] | None:
        for number in reversed(self.updates(index)) if update is None else [update]:
            place = self._place(index, number)
            try:
                manifest = json.loads((place / "manifest.json").read_text())
                seconds, files = float(manifest["seconds"]), dict(manifest["files"])
                # A file that isn't in the manifest doesn't belong to the checkpoint.
                spoilt = [name for name in {*FILES, *files} if _digest(place / name) != files.get(name)]
                if spoilt:
                    raise ValueError(f"{spoilt[0]} is not as it was written")
                with np.load(place / "metrics.npz") as arrays:
                    parts = {name: arrays[name] for name in arrays.files}
            except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
                print(f"checkpoint {str(place)!r} is damaged ({error}); going back", file=sys.stderr)
                if discard:  # so that it doesn't count as one of the two to keep
                    shutil.rmtree(place, ignore_errors=True)
                continue
            metrics, finals = (
                {name.partition("/")[2]: x for name, x in parts.items() if name.startswith(kind)}
                for kind in ("metrics/", "finals/")
            )
            return place, Checkpoint(number, None, metrics, finals, seconds)
        return None


def _unfit(place: pathlib.Path, kept: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The message for a state that isn't of the shapes wanted, each by name."""
    of_policy = [{name: x for name, x in tree.items() if name.startswith(".learner.params")} for tree in (kept, wanted)]
    if of_policy[0] != of_policy[1]:
        return f"policy: the parameters in {str(place)!r} don't fit the network; pass policy= to load()"
    first = next(name for name in {**kept, **wanted} if kept.get(name) != wanted.get(name))
    return f"path: the state in {str(place)!r} differs at {first!r}; use the pgjax and the plugs that wrote it"


def words(state: PyTree) -> PyTree:
    """The state with typed keys as arrays of words, which can be saved."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, state)


def host(state: PyTree) -> PyTree:
    """The state as numpy arrays. They are copies, since the next step writes into the memory of the state."""
    return jax.tree.map(np.array, words(state))


def device(state: PyTree, like: PyTree) -> PyTree:
    """The state as it was before `host`, of the dtypes of `like`."""

    def one(x, like):
        if not _is_key(like):
            return x
        found = []  # jax knows a key's implementation only of traced values, not of shapes
        jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), like)
        return jax.random.wrap_key_data(x, impl=found[0])

    return jax.tree.map(one, state, like)


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _named(tree: PyTree) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def _digest(file: pathlib.Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


Archive = Folder | Memory


def shapes(group: Group, width: int) -> PyTree:
    """The shapes of the TrainState of `width` lanes on a device."""
    one = jax.eval_shape(lambda key: loop.init(key, group.learner, group.hypers[0]), jax.random.key(0))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((width, *x.shape), x.dtype), one)


def kept_shapes(group: Group, width: int) -> PyTree:
    """The shapes of the TrainState of `width` lanes in a checkpoint."""
    return jax.eval_shape(words, shapes(group, width))

"""Writes the states and metrics of a chunk as checkpoints, each complete or absent, and reads the newest sound one.

chunks/00003/update-00000400/state.npz      the TrainState of every lane [W], by the paths of its tree
chunks/00003/update-00000400/metrics.npz    the metrics since the chunk began, and its evaluation
chunks/00003/update-00000400/manifest.json  the digest of every file above
"""

import contextlib
import os
import pathlib
import sys
from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.engine import addresses, files, manifests
from pgjax.engine.manifests import MANIFEST, METRICS, STATE
from pgjax.sweeps.group import Group
from pgjax.training import loop
from pgjax.types import PyTree


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

    def load(self, index: int, like: PyTree, update: int | None = None, discard: bool = False) -> Checkpoint | None:
        held = self.kept.get(index, {})
        return held.get(max(held, default=0) if update is None else update)

    def updates(self, index: int) -> list[int]:
        return sorted(self.kept.get(index, {}))

    def measured(self, index: int, discard: bool = False) -> Checkpoint | None:
        return self.load(index, None)


class Folder:
    """Checkpoints in a folder of a disk or at an address, one folder for each chunk.

    Two processes may train the same chunk, since one was thought dead. Both make the same checkpoints: the one that is
    there first stays, and a reader that finds one gone goes on with those that there are by then.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path

    def save(self, index: int, checkpoint: Checkpoint, keep: Collection[int] = ()) -> None:
        """Write a checkpoint, then remove all but the two newest and those of the updates `keep`.

        Raises:
          OSError: where it can't be written; the checkpoints before it are unchanged.
        """
        place = self._place(index, checkpoint.update)
        with files.scratch(place) as draft:
            np.savez(draft / STATE, **_named(checkpoint.state))
            arrays: dict[str, Any] = {f"metrics/{k}": v for k, v in checkpoint.metrics.items()}
            arrays |= {f"finals/{k}": v for k, v in checkpoint.finals.items()}
            np.savez(draft / METRICS, **arrays)
            digests = manifests.write(draft, checkpoint.update, checkpoint.seconds)
            now = (draft / MANIFEST).stat().st_mtime
            files.put(draft, place, MANIFEST, stays=lambda: manifests.same(place, digests))
        folder = self._folder(index)
        held = addresses.every(folder) if files.remote(folder) else {}
        for update in self._updates(folder, held)[:-2]:
            if update not in keep:
                files.remove(self._place(index, update), MANIFEST)
        if not files.remote(folder):
            return files.tidy(folder, ".update-", now)
        for name in held:  # of a process that was killed before it sent the manifest
            if f"{name.partition('/')[0]}/{MANIFEST}" not in held and addresses.age(folder / name) > files.OLD:
                files.remove(folder / name)

    def load(self, index: int, like: PyTree, update: int | None = None, discard: bool = False) -> Checkpoint | None:
        """The newest sound checkpoint, or that after `update` updates; None where there is none.

        Args:
          like: the state as `host` has it, or its shapes [W, ...] and dtypes.
          discard: see `measured`.
        """
        found = self._sound(index, (STATE, METRICS), update, discard)
        if found is None:
            return None
        kept, wanted = found.state, {name: (x.shape, x.dtype) for name, x in _named(like).items()}
        if (there := {name: (x.shape, x.dtype) for name, x in kept.items()}) != wanted:
            raise ValueError(_unfit(self._place(index, found.update), there, wanted))
        state = jax.tree_util.tree_map_with_path(lambda path, _: kept[jax.tree_util.keystr(path)], like)
        return found._replace(state=state)

    def measured(self, index: int, discard: bool = False) -> Checkpoint | None:
        """The newest sound checkpoint without its state, which at an address is not checked.

        Args:
          discard: remove damaged checkpoints, as the process that trains the chunk may.
        """
        return self._sound(index, (METRICS,), None, discard)

    def updates(self, index: int) -> list[int]:
        """The numbers of updates after which there are checkpoints, in order."""
        folder = self._folder(index)
        return self._updates(folder, addresses.every(folder) if files.remote(folder) else {})

    def newest(self, wanted: Collection[int]) -> dict[int, int]:
        """Chunk -> the updates after which its newest checkpoint is; of an address in one question for all.

        Args:
          wanted: numbers of the chunks; those without a checkpoint are left out.
        """
        held: dict[str, list[str]] = {}  # chunk -> the paths of all that its folder holds, at an address
        if files.remote(self.path):
            for name in addresses.every(self.path):
                chunk, _, rest = name.partition("/")
                held.setdefault(chunk, []).append(rest)
        found = {n: self._updates(self._folder(n), held.get(self._folder(n).name, ())) for n in wanted}
        return {number: updates[-1] for number, updates in found.items() if updates}

    def _updates(self, folder: pathlib.Path, held: Collection[str]) -> list[int]:
        """`held`: at an address, the paths of all that the folder holds."""
        found = [name.partition("/")[0] for name in held if name.endswith(f"/{MANIFEST}")]
        with contextlib.suppress(FileNotFoundError):
            if not files.remote(folder):
                with os.scandir(folder) as entries:
                    found = [entry.name for entry in entries if entry.is_dir()]
        return sorted(number for name in found if (number := manifests.number(name)) is not None)

    def _folder(self, index: int) -> pathlib.Path:
        return self.path / f"{index:05}"

    def _place(self, index: int, update: int) -> pathlib.Path:
        return self._folder(index) / f"update-{update:08}"

    def _sound(
        self, index: int, wanted: tuple[str, ...], update: int | None, discard: bool = False
    ) -> Checkpoint | None:
        """The newest checkpoint, or that of an update, whose `wanted` files are sound; its state by the names in it."""
        failed: set[int] = set()
        while numbers := set(self.updates(index) if update is None else [update]) - failed:
            place = self._place(index, number := max(numbers))
            for again in (True, False):  # it may have been replaced as it was read
                try:
                    seconds, parts = manifests.opened(place, wanted)
                except manifests.UNSOUND as error:
                    if again or not manifests.damaged(place, error):
                        continue
                    print(f"checkpoint {str(place)!r} is damaged ({error}); going back", file=sys.stderr)
                    if discard:  # so that it doesn't count as one of the two to keep
                        files.remove(place, MANIFEST)
                    continue
                metrics, finals = (
                    {name.partition("/")[2]: x for name, x in parts[METRICS].items() if name.startswith(kind)}
                    for kind in ("metrics/", "finals/")
                )
                return Checkpoint(number, parts.get(STATE), metrics, finals, seconds)
            failed.add(number)
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


Archive = Folder | Memory


def shapes(group: Group, width: int) -> PyTree:
    """The shapes of the TrainState of `width` lanes on a device."""
    one = jax.eval_shape(lambda state: loop.TrainState(state, jnp.bool_(True), jnp.int32(0)), group.state)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((width, *x.shape), x.dtype), one)


def kept_shapes(group: Group, width: int) -> PyTree:
    """The shapes of the TrainState of `width` lanes in a checkpoint."""
    return jax.eval_shape(words, shapes(group, width))

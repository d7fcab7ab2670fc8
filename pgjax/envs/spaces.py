"""The kinds of spaces, and checks of an environment's spaces and of what is in them.

A space is recognised by its attributes and not by its class: a Discrete has `n` and no axes, a MultiDiscrete `nvec`, a
Box `low`, `high` and a shape, a Dict or Tuple has `spaces`. So gymnax's and Gymnasium's spaces are treated alike. The
networks of this package take these and refuse every other kind; a policy of the user's own may act in a space of the
user's own, whose `sample(key)` shows what its actions are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.types import PyTree

FLATTEN = "give arrays of these kinds, in dicts or tuples, or a policy of your own that reads it"


class MultiDiscrete:
    """D choices at once: an array [D] of whole numbers, the d-th from 0 to nvec[d] - 1.

    It has the attributes of gymnasium's MultiDiscrete, and `sample(key)` as gymnax's spaces have it.
    """

    def __init__(self, nvec: Any):
        self.nvec = np.asarray(nvec, np.int32)
        if self.nvec.ndim != 1 or not self.nvec.size or np.any(self.nvec < 1):
            raise ValueError(f"MultiDiscrete: nvec must be [D] numbers of choices of 1 or more, got {nvec!r}")
        self.shape, self.dtype = self.nvec.shape, np.dtype(np.int32)

    def sample(self, key: Any) -> Any:
        """[D] int32"""
        return jax.random.randint(key, self.shape, 0, jnp.asarray(self.nvec))

    def contains(self, x: Any) -> Any:
        """[] bool"""
        return jnp.all((x >= 0) & (x < self.nvec))

    def __repr__(self) -> str:
        return f"MultiDiscrete({self.nvec.tolist()})"


def is_multi_discrete(space: Any) -> bool:
    """Whether the space is a vector of finite numbers of choices."""
    return hasattr(space, "nvec") and len(getattr(space, "shape", ())) == 1


def is_discrete(space: Any) -> bool:
    """Whether the space is a finite number of choices: a scalar from 0 to n - 1."""
    return hasattr(space, "n") and not hasattr(space, "low") and getattr(space, "shape", None) == ()


def is_box(space: Any) -> bool:
    """Whether the space is a Box: arrays with a lower and an upper bound."""
    return all(hasattr(space, name) for name in ("low", "high", "shape", "dtype"))


def is_known(space: Any) -> bool:
    """Whether the space is of a kind that holds one array."""
    return is_discrete(space) or is_multi_discrete(space) or is_box(space)


def is_measured(space: Any) -> bool:
    """Whether the space is a Box of numbers that have a mean: no tokens, no bytes, no flags."""
    return is_box(space) and not hasattr(space, "vocabulary") and np.dtype(space.dtype) not in (np.uint8, np.bool_)


def check_observations(space: Any, owner: str = "the environment") -> None:
    """ValueError for a space of observations that the networks of this package can't read."""
    for part in (found := jax.tree.leaves(parts(space))):
        if not is_known(part):
            raise ValueError(
                f"{owner}: observations must be of a Discrete, a MultiDiscrete or a Box, in a Dict or Tuple or not, "
                f"got {described(part)}; {FLATTEN}"
            )
    if not found:
        raise ValueError(f"{owner}: observations are {space!r}, which holds nothing to see; give one array or more")


def check_actions(space: Any, owner: str = "the environment") -> None:
    """ValueError for a space of actions that the networks of this package can't sample from."""
    for part in (found := jax.tree.leaves(parts(space))):
        if not is_known(part):
            raise ValueError(
                f"{owner}: actions must be of a Discrete, a MultiDiscrete or a Box, in a Dict or Tuple or not, got "
                f"{described(part)}; let the environment take one of these, or give run a policy of your own, whose "
                "distribution is a distributions.Joint"
            )
    if not found:
        raise ValueError(f"{owner}: actions are {space!r}, which leaves nothing to do; give one part or more")
    check_parts(space, owner)


def check_parts(space: Any, owner: str = "the environment") -> None:
    """ValueError for a space of actions with a Discrete or a Box, itself or inside, that no policy can sample from."""
    for part in (space, *jax.tree.leaves(parts(space))):
        if not (is_discrete(part) or is_box(part)) and (
            type(part).__module__.startswith("gymnasium.") or not hasattr(part, "sample")
        ):
            raise ValueError(
                f"{owner}: actions of {described(part)} can't be drawn in JAX; give a space of "
                "gymnax.environments.spaces, or one of your own that has sample(key)"
            )
        if is_discrete(part) and part.n < 1:
            raise ValueError(f"{owner}: actions must be 1 or more, got {described(part)}")
        if not is_box(part):
            continue
        if not np.issubdtype(np.dtype(part.dtype), np.floating):
            raise ValueError(
                f"{owner}: a Box of actions must be of real numbers, got {described(part)}; let the environment take "
                "a Discrete, or a Box of float32 that it rounds itself"
            )
        if isinstance(part.low, jax.core.Tracer) or isinstance(part.high, jax.core.Tracer):
            continue
        if np.any(np.isnan(part.low) | np.isnan(part.high) | (np.asarray(part.low) > np.asarray(part.high))):
            raise ValueError(f"{owner}: a Box of actions must have low <= high, got {described(part)}")


def parts(space: Any) -> PyTree:
    """The spaces inside, a Dict's in a dict and a Tuple's in a tuple; any other space is its own single part."""
    inside = getattr(space, "spaces", None)
    if isinstance(inside, Mapping):
        return {name: parts(part) for name, part in inside.items()}
    return space if inside is None else tuple(parts(part) for part in inside)


def clip(space: Any, action: PyTree) -> PyTree:
    """The action as the space's own kind of tree, within the bounds of every Box."""
    inside = getattr(space, "spaces", None)
    if isinstance(inside, Mapping):
        return {name: clip(part, action[name]) for name, part in inside.items()}
    if inside is not None:
        return tuple(clip(part, x) for part, x in zip(inside, action, strict=True))
    return jnp.clip(action, space.low, space.high) if is_box(space) else action


def sample(space: Any, key: Any) -> PyTree:
    """An action of the space, in dicts and tuples as `clip` gives it: gymnax samples an OrderedDict of a Dict."""
    return clip(space, space.sample(key))


def told(tree: PyTree) -> str:
    """A tree of arrays, or of their shapes, in one line: {aim: float32[2], move: int32[]}."""
    return str(jax.tree.map(lambda x: f"{jnp.result_type(x)}{list(jnp.shape(x))}", tree)).replace("'", "")


def holds(space: Any, tree: PyTree, exactly: bool = False) -> bool:
    """Whether a tree of arrays, or of their shapes, has the structure and the shapes of the space's own.

    A dict holds the parts of a Dict, a tuple (a NamedTuple too) those of a Tuple. In a space that is none of this
    package's kinds, what `sample(key)` gives decides.

    Args:
      exactly: whether real numbers must be where the space has real ones, and whole ones elsewhere.
    """
    inside = getattr(space, "spaces", None)
    if isinstance(inside, Mapping):
        both = isinstance(tree, Mapping) and tree.keys() == inside.keys()
        return both and all(holds(part, tree[name], exactly) for name, part in inside.items())
    if inside is not None:
        both = isinstance(tree, tuple) and len(tree) == len(inside)
        return both and all(holds(part, x, exactly) for part, x in zip(inside, tree, strict=True))
    if is_known(space):
        like: Any = jax.ShapeDtypeStruct(tuple(space.shape), np.float32 if is_box(space) else np.int32)
    else:
        like = jax.eval_shape(space.sample, jax.random.key(0))
    trees: list[Any] = [jax.tree.structure(x) for x in (tree, like)]
    if trees[0] != trees[1]:
        return False
    real = lambda x: jnp.issubdtype(jnp.result_type(x), jnp.floating)  # noqa: E731
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(like), strict=True)
    return all(jnp.shape(x) == y.shape and (not exactly or real(x) == real(y)) for x, y in pairs)


def check_shown(space: Any, obs: Any, owner: str = "the environment") -> None:
    """ValueError where the observation of `reset`, a tree of arrays or shapes, isn't the one array of its space."""
    if not (is_discrete(space) or is_box(space)):
        return
    shape = getattr(obs, "shape", None)
    if shape is None or tuple(shape) != tuple(space.shape):
        got = f"an array {list(shape)}" if shape is not None else f"a {type(obs).__name__}"
        raise ValueError(f"{owner}: reset gives {got} to be seen, and its space is {described(space)}; let them agree")


def padded(x: Any, nvec: Sequence[int], fill: float | bool) -> Any:
    """What is given for each choice of a MultiDiscrete, [..., sum of nvec], as [..., D, largest n].

    `fill` stands where a choice has fewer than the largest number.
    """
    rows, start = [], 0
    for n in nvec:
        width = [(0, 0)] * (x.ndim - 1) + [(0, max(nvec) - n)]
        rows.append(jnp.pad(x[..., start : start + n], width, constant_values=fill))
        start += n
    return jnp.stack(rows, axis=-2)


def layout(space: Any) -> str:
    """ "" for discrete observations, "L" for tokens, "HWC" for three axes, which may be an image, "D" for other arrays.

    A Dict, a Tuple or a MultiDiscrete is "tree".

    Raises:
      ValueError: for a space that no network of this package reads.
    """
    check_observations(space)
    if is_discrete(space):
        return ""
    if not is_box(space):
        return "tree"
    return "L" if hasattr(space, "vocabulary") else "HWC" if len(space.shape) == 3 else "D"


def described(space: Any) -> str:
    """A space in one line, without its arrays of bounds."""
    if is_box(space):
        return f"Box of shape {tuple(space.shape)} and type {np.dtype(space.dtype)}"
    if is_discrete(space):
        return f"Discrete({space.n})"
    return type(space).__name__

"""Checks of an environment's spaces, and the layout of its observations, which chooses the network.

A space is recognised by its attributes and not by its class: a Discrete has `n` and no axes, a Box `low`, `high` and a
shape, a Dict or Tuple has `spaces`. So gymnax's and Gymnasium's spaces are treated alike. The networks of this package
take a Discrete or a Box and refuse every other kind; a policy of the user's own may act in a Dict, a Tuple or a space
of the user's own, whose `sample(key)` shows what its actions are.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.types import PyTree

FLATTEN = "give one array, such as gymnasium.wrappers.FlattenObservation makes, or a policy of your own that reads it"


def is_discrete(space: Any) -> bool:
    """Whether the space is a finite number of choices: a scalar from 0 to n - 1."""
    return hasattr(space, "n") and not hasattr(space, "low") and getattr(space, "shape", None) == ()


def is_box(space: Any) -> bool:
    """Whether the space is a Box: arrays with a lower and an upper bound."""
    return all(hasattr(space, name) for name in ("low", "high", "shape", "dtype"))


def check_observations(space: Any, owner: str = "the environment") -> None:
    """ValueError for a space of observations that the networks of this package can't read."""
    if not (is_discrete(space) or is_box(space)):
        raise ValueError(f"{owner}: observations must be of a Discrete or a Box, got {_told(space)}; {FLATTEN}")


def check_actions(space: Any, owner: str = "the environment") -> None:
    """ValueError for a space of actions that the networks of this package can't sample from."""
    if not (is_discrete(space) or is_box(space)):
        raise ValueError(
            f"{owner}: actions must be of a Discrete or a Box, got {_told(space)}; let the environment take one of "
            "these, or give run a policy of your own, whose distribution is a distributions.Joint"
        )
    check_parts(space, owner)


def check_parts(space: Any, owner: str = "the environment") -> None:
    """ValueError for a space of actions with a Discrete or a Box, itself or inside, that no policy can sample from."""
    for part in (space, *jax.tree.leaves(parts(space))):
        known = is_discrete(part) or is_box(part)
        if not known and (type(part).__module__.startswith("gymnasium.") or not hasattr(part, "sample")):
            raise ValueError(
                f"{owner}: actions of {_told(part)} can't be drawn in JAX; give a space of gymnax.environments.spaces, "
                "or one of your own that has sample(key)"
            )
        if is_discrete(part) and part.n < 1:
            raise ValueError(f"{owner}: actions must be 1 or more, got {_told(part)}")
        if not is_box(part):
            continue
        if not np.issubdtype(np.dtype(part.dtype), np.floating):
            raise ValueError(
                f"{owner}: a Box of actions must be of real numbers, got {_told(part)}; let the environment take "
                "a Discrete, or a Box of float32 that it rounds itself"
            )
        if isinstance(part.low, jax.core.Tracer) or isinstance(part.high, jax.core.Tracer):
            continue
        if np.any(np.isnan(part.low) | np.isnan(part.high) | (np.asarray(part.low) > np.asarray(part.high))):
            raise ValueError(f"{owner}: a Box of actions must have low <= high, got {_told(part)}")


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
    if is_discrete(space) or is_box(space):
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
        raise ValueError(f"{owner}: reset gives {got} to be seen, and its space is {_told(space)}; let them agree")


def outputs(space: Any) -> int:
    """The number of network outputs for a distribution over the action space: A preferences, or D means."""
    check_actions(space)
    if is_box(space) and len(space.shape) != 1:
        raise ValueError(f"a Box of actions must have one axis, got shape {space.shape}")
    return space.shape[0] if hasattr(space, "low") else space.n


def layout(space: Any) -> str:
    """ "" for discrete observations, "L" for tokens, "HWC" for three axes, which may be an image, "D" for the rest.

    Raises:
      ValueError: for a space that is neither Discrete nor Box.
    """
    check_observations(space)
    if is_discrete(space):
        return ""
    return "L" if hasattr(space, "vocabulary") else "HWC" if len(space.shape) == 3 else "D"


def channels(space: Any) -> int | None:
    """The axis of an image that holds its channels; None where the sizes leave it open.

    It is the axis that is shorter than both others: the last of [84, 84, 4], the first of a stack of grey frames
    [4, 84, 84]; [10, 10, 10] could be anything. A space may declare it: `layout = "HWC"`.
    """
    if getattr(space, "layout", "") == "HWC":
        return 2
    sizes = list(space.shape)
    return sizes.index(min(sizes)) if sizes.count(min(sizes)) == 1 else None


def images(space: Any) -> Any:
    """The space, with `layout` set to declare that its three axes are [H, W, C]."""
    space.layout = "HWC"
    return space


def check_image(space: Any, told: bool) -> None:
    """ValueError where the first two of three axes aren't the places of an image, over which a convolution runs.

    Args:
      told: whether the user has declared the axes as [H, W, C], by network='cnn'.
    """
    at = channels(space)
    if at == 2 or (at is None and told):
        return
    why = (
        "whose sizes don't say which axis holds the channels; if it is [H, W, C], say network='cnn', else "
        if at is None
        else f"which has its channels on axis {at}, and a convolution reads [H, W, C]; "
    )
    raise ValueError(
        f"the environment shows {_told(space)}, {why}move them to the end by a wrapper "
        f"(np.moveaxis(obs, {at or 0}, -1)), set layout = 'HWC' on the space where it is [H, W, C] all the same, "
        "or use network='mlp', which flattens it"
    )


def _told(space: Any) -> str:
    """A space in one line, without its arrays of bounds."""
    if is_box(space):
        return f"Box of shape {tuple(space.shape)} and type {np.dtype(space.dtype)}"
    if is_discrete(space):
        return f"Discrete({space.n})"
    return type(space).__name__

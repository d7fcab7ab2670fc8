"""Checks of an environment's spaces, and the layout of its observations, which chooses the network.

A space is recognised by its attributes and not by its class: a Discrete has `n` and no axes, a Box `low`, `high` and a
shape. So gymnax's and Gymnasium's spaces are treated alike, and every other kind (Dict, Tuple, MultiDiscrete, ...) is
refused, wherever an environment or a network is made.
"""

from typing import Any

import jax
import numpy as np

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
    """ValueError for a space of actions that no policy can sample from."""
    if not (is_discrete(space) or is_box(space)):
        raise ValueError(
            f"{owner}: actions must be of a Discrete or a Box, got {_told(space)}; let the environment take one of "
            "these, and make its own actions of it"
        )
    if is_discrete(space):
        if space.n < 1:
            raise ValueError(f"{owner}: actions must be 1 or more, got {_told(space)}")
        return
    if not np.issubdtype(np.dtype(space.dtype), np.floating):
        raise ValueError(
            f"{owner}: a Box of actions must be of real numbers, got {_told(space)}; let the environment take "
            "a Discrete, or a Box of float32 that it rounds itself"
        )
    if isinstance(space.low, jax.core.Tracer) or isinstance(space.high, jax.core.Tracer):
        return
    if np.any(np.isnan(space.low) | np.isnan(space.high) | (np.asarray(space.low) > np.asarray(space.high))):
        raise ValueError(f"{owner}: a Box of actions must have low <= high, got {_told(space)}")


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
    if hasattr(space, "low") and len(space.shape) != 1:
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

"""Which observations are images, and which of their axes holds the channels."""

from typing import Any

from pgjax.envs.spaces import described, is_box


def channels(space: Any) -> int | None:
    """The axis of an image that holds its channels; None where the sizes leave it open.

    It is the axis that is shorter than both others: the last of [84, 84, 4], the first of a stack of grey frames
    [4, 84, 84]; [10, 10, 10] could be anything. A space may declare it: `layout = "HWC"`, or "CHW".
    """
    if (declared := getattr(space, "layout", "")) in ("HWC", "CHW"):
        return declared.index("C")
    sizes = list(space.shape)
    return sizes.index(min(sizes)) if sizes.count(min(sizes)) == 1 else None


def is_image(space: Any, told: bool = False) -> bool:
    """Whether the space is an image, [H, W, C] or [C, H, W] and known which, of 3 x 3 or more.

    Args:
      told: whether one whose sizes leave it open is [H, W, C].
    """
    if not is_box(space) or len(space.shape) != 3:
        return False
    at = channels(space)
    at = 2 if at is None and told else at
    return at in (0, 2) and min(space.shape[1:] if at == 0 else space.shape[:2]) >= 3


def declared(space: Any, layout: str = "HWC") -> Any:
    """The space, which now declares what its three axes are: "HWC" or "CHW"."""
    space.layout = layout
    return space


def check_image(space: Any, told: bool) -> None:
    """ValueError where it isn't known which of three axes holds the channels, or it is the middle one.

    Args:
      told: whether the user has declared the axes as [H, W, C], by network='cnn'.
    """
    if (at := channels(space)) in (0, 2) or (at is None and told):
        return
    why = (
        "whose sizes don't say which axis holds the channels" if at is None else "which has its channels in the middle"
    )
    raise ValueError(
        f"the environment shows {described(space)}, {why}; set layout = 'HWC' or 'CHW' on the space, say "
        "network='cnn' where it is [H, W, C], or use network='mlp', which flattens it"
    )

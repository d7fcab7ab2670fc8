"""What the workers of peers.py that use jax share: compiling, and the device."""

from collections.abc import Callable
from typing import Any

import jax
import peer


def compiled(function: Callable, *args: Any, donate: tuple[int, ...] = ()) -> Callable:
    return jax.jit(function, donate_argnums=donate).lower(*args).compile()


def serve(
    programs: dict[str, Callable[[int], dict]], packages: tuple[str, ...], compile_seconds: dict, warm: bool = True
) -> None:
    """As peer.serve."""
    device = jax.devices()[0]
    about = {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()}
    peer.serve(programs, packages, about, compile_seconds, warm)

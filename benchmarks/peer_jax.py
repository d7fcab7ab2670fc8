"""What the workers of peers.py that use jax share: compiling, and the device."""

import os
from collections.abc import Callable
from typing import Any

import jax
import peer


def compiled(function: Callable, *args: Any, donate: tuple[int, ...] = ()) -> Callable:
    return jax.jit(function, donate_argnums=donate).lower(*args).compile()


def every_core(lanes: int) -> list[Any]:
    """A device for each core, as the command line of pgjax has it; those that `lanes` lanes can be shared among."""
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    found = jax.devices()
    return found[: max(n for n in range(1, len(found) + 1) if lanes % n == 0)]


def abreast(devices: list[Any], lanes: Callable, init: Callable, step: Callable) -> Callable:
    """(number of a run) -> [(states, metrics)] of each device: its share of the lanes, at the same time as the others.

    Args:
      lanes: (number, device's place) -> (keys, hypers)
      init, step: (keys, hypers) -> states and (keys, states, hypers) -> (states, metrics), compiled for each device.
    """
    programs = []
    for place, device in enumerate(devices):
        with jax.default_device(device):
            keys, hypers = jax.device_put(lanes(0, place), device)
            begin = compiled(init, keys, hypers)
            programs.append((device, begin, compiled(step, keys, begin(keys, hypers), hypers, donate=(1,))))

    def run(number, change=lambda states: states):
        given = []
        for place, (device, begin, _) in enumerate(programs):
            keys, hypers = jax.device_put(lanes(number, place), device)
            given.append((keys, change(begin(keys, hypers)), hypers))
        # All of it before the first segment: what else the first device were asked for would wait for its end.
        jax.block_until_ready(given)
        return jax.block_until_ready([step(*x) for (_, _, step), x in zip(programs, given, strict=True)])

    return run


def serve(
    programs: dict[str, Callable[[int], dict]], packages: tuple[str, ...], compile_seconds: dict, warm: bool = True
) -> None:
    """As peer.serve."""
    device = jax.devices()[0]
    about = {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()}
    peer.serve(programs, packages, about, compile_seconds, warm)

"""Measures the memory of devices and of compiled programs, from which the width of a chunk follows."""

import contextlib
import ctypes
import math
import os
import pathlib
import re
from typing import Any

SHARE = {"cpu": 0.5, "gpu": 0.8, "tpu": 0.8}  # of the device's memory, where no budget is given


# Up to eight cores of a CPU share the lanes of a run. Two cores train eight chunks of four lanes as fast as two of
# sixteen, but chunks of one lane in up to twice the time of chunks of four.
PARTS, NARROW = 8, 4


HELD = 0.4e9  # bytes that a process holds before it trains: its code, and what compiling leaves


# Beyond this a wider program is slower: on a CPU its arrays leave the caches (benchmarks/lanes.py).
WORTH = {"cpu": 16e6}


UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def parse(text: Any) -> float | None:
    """Bytes of '4GB', '500 MiB' or 2e9; None stays None."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([kmgt]?i?)b?\s*", str(text), re.IGNORECASE)
    try:
        if found is None:
            raise ValueError
        size = float(found[1]) * UNITS[found[2].upper()]
    except (KeyError, ValueError):
        raise ValueError(f"memory must be a size such as 4GB or 500MiB, got {text!r}") from None
    if not 0 < size < float("inf"):
        raise ValueError(f"memory must be above 0 and finite, got {text!r}")
    return size


def there(devices: list[Any]) -> float:
    """Bytes of the host, which its CPU devices share, or of each accelerator."""
    if devices[0].platform == "cpu":
        return _host()
    return (devices[0].memory_stats() or {}).get("bytes_limit", math.inf)


def checked_budget(budget: float | None, devices: list[Any]) -> float | None:
    """The budget.

    Raises:
      ValueError: where the devices have less memory.
    """
    if budget is not None and budget > (most := there(devices)):
        raise ValueError(f"memory={budget / 1e9:,.6g} GB is more than the {most / 1e9:.1f} GB of the device; give less")
    return budget


def room(budget: float | None, devices: list[Any]) -> tuple[float, float]:
    """Bytes that a program may take where `PARTS` of them run at the same time, and where one runs alone.

    They follow from the budget, or without one from `SHARE` of the memory: not from what the process holds already nor
    from the number of devices, since lanes of another width round differently. On a CPU the budget is that of the
    process, of which `HELD` is subtracted. A tenth stays free, for memory that XLA's analysis doesn't count.
    """
    platform = devices[0].platform
    whole = budget or SHARE.get(platform, 0.5) * there(devices)
    if platform != "cpu":
        return (whole, whole) if budget is None else (0.9 * whole, 0.9 * whole)
    whole -= HELD
    return 0.9 * whole / PARTS, 0.9 * whole


def left(budget: float | None) -> float:
    """Bytes of a CPU's budget that its programs may still take, besides the memory that the process holds by now."""
    return 0.9 * ((budget or SHARE["cpu"] * _host()) - _resident())


def share(lanes: int, devices: list[Any]) -> int:
    """The widest that a chunk of so many lanes may be, whatever the number of devices.

    On a CPU at least `PARTS` chunks, if they are then `NARROW` lanes wide, and else two.
    """
    if devices[0].platform != "cpu":
        return lanes
    return max(math.ceil(lanes / PARTS), min(NARROW, math.ceil(lanes / 2)))


def worth(devices: list[Any]) -> float:
    """Bytes on each device up to which a wider program is faster."""
    return WORTH.get(devices[0].platform, float("inf"))


def needed(compiled: Any) -> float:
    """Bytes of a compiled program on each device: arguments, results and temporary arrays."""
    found = compiled.memory_analysis()
    if found is None:  # XLA has no analysis on some devices
        return 0.0
    used = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    # A checkpoint holds the results once more while it is written.
    return used + found.temp_size_in_bytes + found.output_size_in_bytes


def _host() -> float:
    """Bytes of this machine, or of the container that the process is in."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = pathlib.Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(physical, float(text)) if text != "max" else physical


def _resident() -> float:
    """Bytes that this process holds now."""
    statm = pathlib.Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes where there is no /proc: on macOS


def give_back() -> None:
    """Return freed memory, which the C library still holds, to the system; does nothing where that isn't possible.

    XLA compiles in threads of its own, and glibc keeps what each of them freed for that thread: hundreds of megabytes
    that grow with every run of a process.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # musl and macOS have no such call, Windows no None
        ctypes.CDLL(None).malloc_trim(0)

"""What the last bit of a lane depends on besides its plan: versions of packages, and the kind of device."""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import platform
import re
from typing import Any

import jax

from pgjax.engine import files
from pgjax.sweeps.values import place

PACKAGES = ("jax", "jaxlib", "flax", "optax", "gymnax", "gymnasium", "flashbax", "numpy", "xarray", "zarr")
ROUNDING = ("pgjax", "jax", "jaxlib", "flax", "optax", "gymnax")  # of these another version may give other numbers
MOST = 8  # devices of a CPU: each has programs of its own, which are traced one after the other
LEVELS = {"amx_tile": "AMX", "avx512f": "AVX512", "avx2": "AVX2", "avx": "AVX", "sse4_2": "SSE4_2"}


def versions() -> dict[str, str | None]:
    """Package -> its version, None where it isn't installed; python's and pgjax's own are among them."""
    import pgjax

    found: dict[str, str | None] = {"python": platform.python_version(), "pgjax": pgjax.__version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def signature() -> dict[str, str]:
    """Name -> text of all that two machines must share for a lane to be the same on both, bit for bit.

    On a CPU these are the vector instructions that XLA may use, and the number of threads between which it splits a
    matrix product, which changes the order of a sum.
    """
    device, have = jax.local_devices()[0], versions()
    found = {name: str(have[name]) for name in ROUNDING} | {"device": f"{device.platform} {device.device_kind}"}
    if device.platform == "cpu":
        found["device"] = f"cpu {platform.machine()}"
        found |= {"instructions": _instructions(), "threads": str(max(threads(), jax.local_device_count()))}
    return found


def difference(before: dict[str, str], now: dict[str, str]) -> str | None:
    """The first difference between two signatures in words, such as "jax 0.10.2 here and 0.11.0 there"."""
    if not before:
        return "an older pgjax began it"
    for name in now:
        if before.get(name, now[name]) != now[name]:
            fix = f" (NPROC={before[name]} sets it)" if name == "threads" else ""
            return f"{name} {now[name]} here and {before[name]} there{fix}"
    return None


def cores() -> int:
    """How many cores this process may use: of the machine, of its affinity or of its SLURM job."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(found, int(os.environ.get("SLURM_CPUS_ON_NODE", found)))


def threads() -> int:
    """How many threads XLA gives a CPU: the environment variable NPROC, or one for each core."""
    text = os.environ.get("NPROC", "")
    if text.isdecimal() and int(text):
        return int(text)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_every_core(folder: Any = None) -> None:
    """Use one device for each core of a CPU, and as many threads, before any other use of JAX.

    Chunks side by side take two thirds of the time of one program: XLA splits a small product between its threads
    badly, or not at all.

    Args:
      folder: of the run, if it was begun: since a product that is split between other numbers of threads rounds
        differently, there are as many as where it was begun.
    """
    found = min(cores(), MOST)
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        text = files.read(place("path", folder) / "chunks.json")
        os.environ["NPROC"] = json.loads(text)["machine"]["threads"]
    os.environ.setdefault("NPROC", str(found))
    if getattr(jax.config, "jax_num_cpu_devices", 0) >= 0 or "host_platform_device_count" in os.environ.get(
        "XLA_FLAGS", ""
    ):
        return
    with contextlib.suppress(RuntimeError):  # a caller in Python may have used jax already
        jax.config.update("jax_num_cpu_devices", min(found, threads()))


def _instructions() -> str:
    """The highest level of vector instructions, as `--xla_cpu_max_isa` names it; "" where that isn't known."""
    asked = re.search(r"--xla_cpu_max_isa=(\w+)", os.environ.get("XLA_FLAGS", ""))
    file = pathlib.Path("/proc/cpuinfo")
    flags = re.search(r"^flags\s*:(.*)$", file.read_text(), re.MULTILINE) if file.is_file() else None
    has = flags[1].split() if flags else []
    found = [level for flag, level in LEVELS.items() if flag in has]
    if asked and asked[1] in found:
        return asked[1]
    return found[0] if found else ""

"""What the benchmarks share. Standard library alone: it is imported under two interpreters."""

import json
import os
import pathlib
import platform
import statistics
import subprocess
from collections.abc import Sequence
from typing import Any

HERE = pathlib.Path(__file__).parent
RESULTS = pathlib.Path(os.environ.get("BENCHMARK_RESULTS", HERE / "results"))  # suite.py --quick writes elsewhere


def cpu() -> dict[str, Any]:
    """The processor, how many cores this process may use, and how busy the machine is."""
    model = platform.processor() or platform.machine()
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"model": model, "cores": cores, "load_average": list(os.getloadavg())}


def commit() -> str:
    """The commit of the working tree, with `-dirty` behind it where files differ from it; "unknown" without git."""
    words = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(words, cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, least and greatest, and the values themselves."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "all": list(values)}


def write_json(path: pathlib.Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")

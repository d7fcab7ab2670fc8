"""Run the README's first command many times in a row, each in a fresh process, and count the hangs.

A compiled program can hang on a machine with few cores where its parts wait for each other; whether
it does is chance, so one run that ends says little. Run it on the smallest machine at hand, with no
XLA_FLAGS in the environment. With --cold each run starts with empty caches (of compiled programs, and
of matplotlib's fonts), as on a machine that has never run it.
"""

import argparse
import contextlib
import json
import os
import pathlib
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from common import RESULTS, cpu, write_json

COMMAND = "ppo CartPole-v1 --seeds 32"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", "--runs", type=int, default=20, help="how many times")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds after which a run counts as hung")
    parser.add_argument("--cold", action="store_true", help="empty caches for each run")
    parser.add_argument("--arguments", default=COMMAND, help="of `pgjax train`, in one string")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, help="folder of no_deadlock.json")
    options = parser.parse_args()

    report = {
        "command": f"pgjax train {options.arguments}",
        "limit_seconds": options.limit,
        "cold": options.cold,
        "cpu": cpu(),
        # Both change how XLA schedules, and so whether it can hang.
        "environment": {name: os.environ.get(name) for name in ("XLA_FLAGS", "NPROC", "JAX_PLATFORMS")},
        "versions": None,
        "device": None,
        "runs": [],
    }
    for number in range(1, options.runs + 1):
        with tempfile.TemporaryDirectory() as scratch:
            row, config = once(options.arguments, pathlib.Path(scratch), options.limit, options.cold)
        report["runs"].append(row)
        if config:
            report["versions"], report["device"] = config["versions"], config["device"]
        report["totals"] = totals(report["runs"])
        write_json(options.results / "no_deadlock.json", report)  # after each run, for whoever stops it early
        ended = "hung" if row["hung"] else f"exit code {row['exit_code']}"
        iqm = "-" if row["iqm"] is None else f"{row['iqm']:.1f}"
        print(f"{number}/{options.runs}: {ended}, {row['wall_seconds']:.1f} s, IQM {iqm}", flush=True)
        if row["stderr"]:
            print(row["stderr"], file=sys.stderr, flush=True)
    t = report["totals"]
    wall = t["wall_seconds"]
    took = f"{wall['median']:.1f} s ({wall['min']:.1f} to {wall['max']:.1f})" if wall else "-"
    print(f"{t['runs']} runs: {t['hung']} hung, {t['failed']} failed; wall seconds of those that ended well: {took}")
    return 1 if t["hung"] or t["failed"] else 0


def once(arguments: str, scratch: pathlib.Path, limit: float, cold: bool) -> tuple[dict[str, Any], dict | None]:
    """One run in a process group of its own, killed after `limit` seconds; its row, and its config.json."""
    folder = scratch / "run"
    words = [sys.executable, "-m", "pgjax", "train", *arguments.split(), "--out", str(folder)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(scratch / "cache")} if cold else None
    if cold:
        (scratch / "cache").mkdir()
    cpu_began, began = cpu_of_children(), time.perf_counter()
    process = subprocess.Popen(
        words,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    hung = False
    try:
        _, complaint = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        hung = True
        os.killpg(process.pid, signal.SIGKILL)
        _, complaint = process.communicate()
    finally:
        if process.poll() is None:  # Ctrl-C here doesn't reach a process group of its own
            os.killpg(process.pid, signal.SIGKILL)
    wall, cpu_seconds = time.perf_counter() - began, cpu_of_children() - cpu_began
    read = {"config.json": None, "summary.json": None}
    for name in read:
        with contextlib.suppress(OSError, ValueError):
            read[name] = json.loads((folder / name).read_text())
    summary = read["summary.json"] or {}
    well = not hung and process.returncode == 0
    row = {
        "hung": hung,
        "exit_code": None if hung else process.returncode,
        "wall_seconds": wall,
        "cpu_seconds": cpu_seconds,  # far below the wall time where it waited for itself, and was not merely slow
        **{name: summary.get(name) for name in ("compile_seconds", "train_seconds", "evaluate_seconds")},
        "iqm": summary["settings"][0].get("stochastic", {}).get("iqm") if summary else None,
        "failed_lanes": summary.get("failed_lanes"),
        # How far it came, where it did not end well.
        "stderr": "" if well else "\n".join(complaint.splitlines()[-5:]),
    }
    return row, read["config.json"]


def cpu_of_children() -> float:
    """CPU seconds of all processes that were started here and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def totals(rows: list[dict[str, Any]]) -> dict[str, Any]:
    well = [row["wall_seconds"] for row in rows if row["exit_code"] == 0]
    scores = [row["iqm"] for row in rows if row["iqm"] is not None]
    return {
        "runs": len(rows),
        "hung": sum(row["hung"] for row in rows),
        "failed": sum(row["exit_code"] not in (0, None) for row in rows),
        "wall_seconds": {"median": statistics.median(well), "min": min(well), "max": max(well)} if well else None,
        "iqm": {"min": min(scores), "max": max(scores)} if scores else None,
    }


if __name__ == "__main__":
    sys.exit(main())

"""How long until a training runs? Compile time of `pgjax train ppo CartPole-v1`, cold and from the cache.

    python benchmarks/compiling.py
    python benchmarks/compiling.py --repeats 1

Each repeat gives a process an empty compilation cache (cold), and then a second process the same cache (cached), both
to be as a first and a second run of the command. Writes results/compiling.json.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

from common import RESULTS, commit, cpu, spread, write_json

COMMAND = "pgjax train ppo CartPole-v1"


def run(options, cache, out):
    """One process: seconds until its first segment of updates ended, and what its summary says."""
    words = [
        sys.executable,
        "-m",
        "pgjax",
        *COMMAND.split()[1:],
        "--seeds",
        str(options.seeds),
        "--out",
        str(out),
    ]
    began, first, said = time.perf_counter(), None, []
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    timer = threading.Timer(options.limit, process.kill)
    timer.start()
    for line in process.stderr:
        said.append(line)
        # Where the output is no terminal, a line is printed after the first segment.
        if first is None and "updates of all lanes" in line:
            first = time.perf_counter() - began
    code = process.wait()
    timer.cancel()
    if code or first is None:
        raise SystemExit(f"compiling.py: the command ended with code {code}: {said[-1].strip() if said else 'silent'}")
    summary = json.loads((out / "summary.json").read_text())
    return {
        "compile_seconds": summary["compile_seconds"],
        "first_segment_seconds": first,
        "wall_seconds": time.perf_counter() - began,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--limit", type=float, default=600.0, help="seconds that one process may take")
    options = parser.parse_args()
    if min(options.repeats, options.seeds) < 1:
        parser.error("--repeats and --seeds must be 1 or more")
    found = {"cold": [], "cached": []}
    for repeat in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            for kind, rows in found.items():
                rows.append(run(options, pathlib.Path(folder, "cache"), pathlib.Path(folder, kind)))
                took = "  ".join(f"{name} {seconds:.1f}" for name, seconds in rows[-1].items())
                print(f"{repeat + 1}: {kind:6s} {took}", flush=True)
    from pgjax.engine import chunks
    from pgjax.runs import record
    from pgjax.sweeps import plan

    group = plan.plan("ppo", "CartPole-v1").groups[0]
    facts = {
        "command": f"{COMMAND} --seeds {options.seeds}",
        "commit": commit(),
        "cpu": cpu(),
        **record.machine(),
        "first_segment_updates": chunks.segment(group.updates),
    }
    for kind, rows in found.items():
        facts[kind] = {name: spread([row[name] for row in rows]) for name in rows[0]}
    write_json(RESULTS / "compiling.json", facts)


if __name__ == "__main__":
    main()

"""The parent's end of the protocol of peer.py, and the comparison of two sides that run in turn."""

import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import threading
from typing import Any

from common import spread

HERE = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Side:
    script: str
    sizes: dict[str, int]  # of its command line


@dataclasses.dataclass(frozen=True)
class Comparison:
    name: str
    pgjax: str  # the program of each side
    peer: str
    includes: str
    unit: str = "env_steps"  # of which each side's rate per second is compared


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    peer: str
    sides: dict[str, Side]  # "pgjax" and the peer's
    comparisons: tuple[Comparison, ...]
    same_work: bool = False  # whether both sides must count the same
    most: int = 99  # repeats, at most


class Worker:
    """One side: a process that runs a program when told to."""

    def __init__(self, python: str, side: Side, limit: float):
        command = [python, str(HERE / side.script), *(f"--{name}={value}" for name, value in side.sizes.items())]
        self.script, self.limit = side.script, limit
        # Both sides hold a device at the same time, so neither may take most of its memory.
        environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def answer(self) -> dict[str, Any]:
        timer = threading.Timer(self.limit, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if not line:
            code = self.process.wait()
            raise SystemExit(f"{self.script} ended with exit code {code}, or was killed after {self.limit:.0f} s")
        return json.loads(line)

    def go(self, program: str) -> dict[str, Any]:
        self.process.stdin.write(f"go {program}\n")
        self.process.stdin.flush()
        return self.answer()

    def stop(self) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()


def measure(case: Case, pythons: dict[str, str], repeats: int, limit: float, sides: dict[str, Any]) -> dict[str, Any]:
    """Everything about one case; `sides` is given what each side says of itself."""
    workers, compiling = {}, {}
    try:
        for name, side in case.sides.items():
            print(f"{case.name}: {name} starts", file=sys.stderr, flush=True)
            workers[name] = Worker(pythons[name], side, limit)
            said = workers[name].answer()
            compiling[name] = said.pop("compile_seconds")
            sides[name] = said
        comparisons = []
        for comparison in case.comparisons:
            programs = {"pgjax": comparison.pgjax, case.peer: comparison.peer}
            runs = {name: [] for name in programs}
            for repeat in range(min(repeats, case.most)):
                for name, program in programs.items():
                    runs[name].append(workers[name].go(program))
                took = "  ".join(f"{name} {rows[-1]['seconds']:.2f} s" for name, rows in runs.items())
                print(f"{case.name}: {comparison.name} {repeat + 1}: {took}", file=sys.stderr, flush=True)
            comparisons.append(compare(comparison, runs, case))
    finally:
        for worker in workers.values():
            worker.stop()
    pgjax, peer = case.sides["pgjax"].sizes, case.sides[case.peer].sizes
    sizes = pgjax if pgjax == peer else {"sizes": {"pgjax": pgjax, case.peer: peer}}
    return {"name": case.name, "peer": case.peer, **sizes, "compile_seconds": compiling, "comparisons": comparisons}


def compare(comparison: Comparison, runs: dict[str, list[dict[str, Any]]], case: Case) -> dict[str, Any]:
    """Seconds and rates of each side, and the ratios of the rates, pgjax's over the peer's."""
    work = {name: [{k: v for k, v in row.items() if "seconds" not in k} for row in rows] for name, rows in runs.items()}
    check(comparison, {name: rows[0] for name, rows in work.items()}, case)
    timed, rates = {}, {}
    for name, rows in runs.items():
        rates[name] = [row[comparison.unit] / row["seconds"] for row in rows]
        timed[name] = {
            "seconds": spread([row["seconds"] for row in rows]),
            "cpu_seconds": spread([row["cpu_seconds"] for row in rows]),
        }
        for unit in ("env_steps", "episodes"):
            if unit in rows[0]:
                timed[name][f"{unit}_per_second"] = statistics.median(row[unit] / row["seconds"] for row in rows)
        if "episodes" in rows[0]:
            timed[name]["mean_length"] = sum(r["env_steps"] for r in rows) / sum(r["episodes"] for r in rows)
        if not case.same_work:
            timed[name]["work"] = work[name]
    pairs = [ours / theirs for ours, theirs in zip(rates["pgjax"], rates[case.peer], strict=True)]
    return {
        "name": comparison.name,
        "includes": comparison.includes,
        "unit": comparison.unit,
        **(work["pgjax"][0] if case.same_work else {}),
        **timed,
        "ratio_of_medians": statistics.median(rates["pgjax"]) / statistics.median(rates[case.peer]),
        "median_of_paired_ratios": statistics.median(pairs),
        "paired_ratios": pairs,
    }


def check(comparison: Comparison, work: dict[str, dict[str, Any]], case: Case) -> None:
    """Both sides must count the same, or at least make as many gradient steps for each environment step."""
    if case.same_work:
        same = work["pgjax"] == work[case.peer]
    else:
        # A lane of more environments has more steps in each minibatch.
        each = [
            x.get("gradient_steps", 0) * case.sides[name].sizes.get("envs", 1) / x["env_steps"]
            for name, x in work.items()
        ]
        same = abs(each[0] - each[1]) <= 1e-6 * max(each)
    if not same:
        raise SystemExit(f"{comparison.name}: the two sides don't do the same work: {work}")

"""Time pgjax against rejax: whole PPO trainings and rollouts, the two in turn, as ratios.

Each side is a process that has compiled its programs and waits; the parent lets pgjax and rejax run
in turn, so both see the same machine. See README.md for rejax's environment, and for what each
side's program includes.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import subprocess
import sys
import threading
from typing import Any

from common import RESULTS, cpu, spread, write_json
from rich.console import Console
from rich.table import Table

HERE = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Case:
    lanes: int
    envs: int
    updates: int  # of one timed training
    collections: int  # rollouts of one timed run of the rollout programs

    @property
    def name(self) -> str:
        return f"{self.lanes} lane{'s' * (self.lanes > 1)} x {self.envs} envs"


CASES = (
    Case(lanes=64, envs=16, updates=4, collections=8),
    Case(lanes=1, envs=2048, updates=2, collections=4),
)


@dataclasses.dataclass(frozen=True)
class Comparison:
    name: str
    pgjax: str  # the program of each side
    rejax: str
    includes: str


COMPARISONS = (
    Comparison("train", "train", "train", "initialisation, rollouts, advantages, updates; no evaluation"),
    Comparison(
        "rollout",
        "rollout",
        "rollout",
        "pgjax: actor, environment, reset, next_obs; rejax: actor, environment, reset, and the critic's value",
    ),
    Comparison(
        "rollout and values",
        "rollout_values",
        "rollout",
        "pgjax: the rollout, then value, next_value, log_prob and entropy of all its steps; rejax: as in rollout",
    ),
)


class Worker:
    """One side: a process that runs a program when told to."""

    def __init__(self, python: str, script: str, case: Case, limit: float):
        sizes = [f"--{name}={value}" for name, value in dataclasses.asdict(case).items()]
        command = [python, str(HERE / script), *sizes]
        self.script, self.limit = script, limit
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rejax-python", required=True, help="interpreter of the environment that holds rejax")
    parser.add_argument("--repeats", type=int, default=7, help="timed runs of each program of each side")
    parser.add_argument("--scale", type=float, default=1.0, help="length of each timed run, relative to the default")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds that a worker may take for one answer")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, help="folder of peers.json")
    options = parser.parse_args()

    report = {
        "command": f"python benchmarks/peers.py --rejax-python PATH --repeats {options.repeats}"
        + (f" --scale {options.scale:g}" if options.scale != 1 else ""),
        "cpu": cpu(),
        "sides": {},
        "cases": [],
    }
    for case in CASES:
        scaled = dataclasses.replace(
            case,
            updates=max(1, round(case.updates * options.scale)),
            collections=max(1, round(case.collections * options.scale)),
        )
        report["cases"].append(measure(scaled, options, report["sides"]))
    report["load_average_after"] = cpu()["load_average"]
    write_json(options.results / "peers.json", report)
    show(report)


def measure(case: Case, options: argparse.Namespace, sides: dict[str, Any]) -> dict[str, Any]:
    """Everything about one case; `sides` is given what each side says of itself."""
    scripts = {"pgjax": (sys.executable, "peer_pgjax.py"), "rejax": (options.rejax_python, "peer_rejax.py")}
    workers, compiling = {}, {}
    try:
        for side, (python, script) in scripts.items():
            print(f"{case.name}: {side} compiles", file=sys.stderr, flush=True)
            workers[side] = Worker(python, script, case, options.limit)
            said = workers[side].answer()
            compiling[side] = said.pop("compile_seconds")
            sides[side] = said
        comparisons = []
        for comparison in COMPARISONS:
            runs = {"pgjax": [], "rejax": []}
            for repeat in range(options.repeats):
                for side, rows in runs.items():
                    rows.append(workers[side].go(getattr(comparison, side)))
                took = "  ".join(f"{side} {rows[-1]['seconds']:.2f} s" for side, rows in runs.items())
                print(f"{case.name}: {comparison.name} {repeat + 1}: {took}", file=sys.stderr, flush=True)
            comparisons.append(compare(comparison, runs))
    finally:
        for worker in workers.values():
            worker.stop()
    return {"name": case.name, **dataclasses.asdict(case), "compile_seconds": compiling, "comparisons": comparisons}


def compare(comparison: Comparison, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Seconds of each side and their ratios, rejax's over pgjax's: above 1, pgjax is the faster."""
    work = {side: {k: v for k, v in rows[0].items() if "seconds" not in k} for side, rows in runs.items()}
    if work["pgjax"] != work["rejax"]:
        raise SystemExit(f"{comparison.name}: the two sides don't do the same work: {work}")
    timed = {}
    for side, rows in runs.items():
        seconds = spread([row["seconds"] for row in rows])
        timed[side] = {
            "seconds": seconds,
            "cpu_seconds": spread([row["cpu_seconds"] for row in rows]),
            "env_steps_per_second": work[side]["env_steps"] / seconds["median"],
        }
    pairs = [r["seconds"] / p["seconds"] for p, r in zip(runs["pgjax"], runs["rejax"], strict=True)]
    medians = {side: timed[side]["seconds"]["median"] for side in timed}
    return {
        "name": comparison.name,
        "includes": comparison.includes,
        **work["pgjax"],
        **timed,
        "ratio_of_medians": medians["rejax"] / medians["pgjax"],
        "median_of_paired_ratios": statistics.median(pairs),
        "paired_ratios": pairs,
    }


def show(report: dict[str, Any]) -> None:
    table = Table(title="rejax seconds / pgjax seconds: above 1, pgjax is the faster", title_justify="left")
    table.add_column("case", no_wrap=True)
    table.add_column("what", no_wrap=True)
    for column in ("steps", "pgjax", "rejax", "ratio of medians", "median of paired ratios"):
        table.add_column(column, justify="right", no_wrap=column in ("pgjax", "rejax"))
    for case in report["cases"]:
        for row in case["comparisons"]:
            seconds = [row[side]["seconds"] for side in ("pgjax", "rejax")]
            table.add_row(
                case["name"],
                row["name"],
                f"{row['env_steps']:.3g}",
                *(f"{s['median']:.2f} ({s['min']:.2f}..{s['max']:.2f})" for s in seconds),
                f"{row['ratio_of_medians']:.2f}",
                f"{row['median_of_paired_ratios']:.2f}",
            )
    Console(width=None if sys.stdout.isatty() else 130).print(table)


if __name__ == "__main__":
    main()

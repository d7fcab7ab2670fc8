"""Carries one sweep out in each way that there is, watches its folder meanwhile, and kills its workers."""

import contextlib
import datetime
import importlib.util
import json
import os
import pathlib
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray
from common import HERE

from pgjax.engine.checkpoints import Folder
from pgjax.engine.chunks import read
from pgjax.engine.leases import Shared

ROOT = HERE.parent
PGJAX = [sys.executable, "-m", "pgjax"]
# Way -> (the package that it needs, the program that it needs)
WAYS = {
    "baseline": (None, "git"),
    "one": (None, None),
    "processes": (None, None),
    "loky": ("loky", None),
    "dask": ("distributed", None),
    "slurm": ("submitit", "sbatch"),
    "array": (None, "sbatch"),
    "work": (None, None),
    "ray": ("ray", None),
    "mpi": ("mpi4py", "mpiexec"),
}
AGAIN = ("work", "mpi")  # nothing but whoever started it starts it again
LOOK = 0.25  # seconds between two looks
# Makes the folder of a run, and trains nothing.
FOLDER = """
import sys
from pgjax.cli import main, train
train.execute = lambda *_, **__: 0
sys.exit(main.main(sys.argv[1:]))
"""


def missing(way: str) -> str | None:
    """What a way lacks on this machine, or None."""
    package, program = WAYS[way]
    if package and importlib.util.find_spec(package) is None:
        return package
    return program if program and shutil.which(program) is None else None


def environment(cache: pathlib.Path, root: pathlib.Path = ROOT, **more: str) -> dict[str, str]:
    """That of every process here: one tree of pgjax, and compiled programs in a folder of their own."""
    as_root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    spare = {"OMPI_MCA_rmaps_base_oversubscribe": "1", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    return os.environ | as_root | spare | {"PYTHONPATH": path, "XDG_CACHE_HOME": str(cache)} | more


def commands(way: str, words: list[str], out: pathlib.Path, workers: int, tasks: int) -> list[list[str]]:
    """What a user would start, in a folder that is there for `work` and `array`: a command, or one for each worker.

    Args:
      words: `sweep ALGORITHM ENV ... --out DIR`.
      tasks: of a job array, of which `workers` run at once.
    """
    if way in ("processes", "loky", "dask", "ray"):
        return [[*PGJAX, *words, "--on", way, "--workers", str(workers)]]
    if way == "slurm":
        return [[*PGJAX, *words, "--on", "slurm:time=600,cpus_per_task=1,mem=4G", "--workers", str(workers)]]
    if way == "mpi":
        ranks = ["mpiexec", "-n", str(workers + 1), sys.executable, "-m", "mpi4py.futures", "-m", "pgjax"]
        return [[*ranks, *words, "--on", "mpi"]]
    work = [*PGJAX, "work", str(out), "--devices", "1"]
    if way == "array":
        wrapped = f"--wrap={shlex.join(work)}"
        options = [f"--array=1-{tasks}%{workers}", "-c1", "--mem=4G", "--job-name=pgjax-work", "--output=/dev/null"]
        return [["sbatch", "--wait", *options, wrapped]]
    return [work] * workers if way == "work" else [[*PGJAX, *words]]


def carry_out(
    way: str,
    words: list[str],
    out: pathlib.Path,
    env: dict[str, str],
    workers: int = 2,
    tasks: int | None = None,
    each: Callable[[list[int]], None] = lambda parents: None,
) -> float:
    """Carry a sweep out until its results are written, and give the seconds that took.

    Args:
      each: called with the ids of the processes started here, a few times in a second.

    Raises:
      RuntimeError: where a command ends otherwise than well, and starting it again is no part of the way.
    """
    words, began = [*words, "--out", str(out)], time.time()
    quiet: dict[str, Any] = {"env": env, "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    with tempfile.TemporaryFile("w+") as errors:
        quiet["stderr"] = errors
        if way in ("work", "array"):
            subprocess.run([sys.executable, "-c", FOLDER, *words], check=True, **quiet)
        started = commands(way, words, out, workers, tasks or workers)
        running = [(command, subprocess.Popen(command, **quiet)) for command in started]
        while running:
            each([process.pid for _, process in running])
            time.sleep(LOOK)
            for i, (command, process) in enumerate(running):
                if process.poll() and not complete(out):
                    if way not in AGAIN:
                        errors.seek(0)
                        raise RuntimeError(f"{way} ended with {process.returncode}: {errors.read()[-2000:]}")
                    running[i] = command, subprocess.Popen(command, **quiet)
            running = [(command, process) for command, process in running if process.poll() is None]
            if way == "array" and complete(out):  # the tasks that wait have nothing left to do
                for _, process in running:
                    process.terminate()
                    process.wait()
                subprocess.run(["scancel", "--name=pgjax-work", "--me"], check=True)
                break
    if not complete(out):
        raise RuntimeError(f"{way} ended, and the run in {out} has not")
    return (out / "summary.json").stat().st_mtime - began


def complete(out: pathlib.Path) -> bool:
    """Whether the run has come to its end, and its results are written."""
    with contextlib.suppress(OSError, ValueError):
        return not json.loads((out / "summary.json").read_text())["interrupted"]
    return False


def differing(a: pathlib.Path, b: pathlib.Path) -> list[str]:
    """The names of the arrays of metrics.zarr that are not bit-identical in two runs."""
    one, two = (xarray.open_zarr(path / "metrics.zarr", consolidated=False).load() for path in (a, b))
    names = sorted({*one.variables} | {*two.variables})
    both = {*one.variables} & {*two.variables}
    return [n for n in names if n not in both or not np.array_equal(one[n], two[n], equal_nan=one[n].dtype.kind == "f")]


def alive(pid: int) -> bool:
    """Whether a process of this machine runs: one that nobody has waited for yet does not."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


class Watch:
    """Looks at a run's folder while it runs: who has lived how long, and what was saved when.

    All workers are of this machine.

    Attributes:
      seen: HOST-PID -> when its process was last seen alive.
      saved: chunk -> [time, update] of each checkpoint, when it was first seen.
    """

    def __init__(self, out: pathlib.Path):
        self.out, self.seen, self.saved = out, dict[str, float](), dict[int, list[tuple[float, int]]]()

    def look(self) -> dict[int, int]:
        """Look once; the process of every chunk that is trained now."""
        if not (self.out / "chunks.json").exists() or not (self.out / "work" / "claims").exists():
            return {}
        claims, archive, now = Shared(self.out), Folder(self.out / "chunks"), time.time()
        owners = {number: who for number in claims.held() if (who := claims.owner(number))}
        found = {number: int(who.rpartition("-")[2]) for number, who in owners.items()}
        found = {number: pid for number, pid in found.items() if alive(pid)}
        self.seen |= {owners[number]: now for number in found}
        for number in found:
            before, newest = self.saved.setdefault(number, []), max(archive.updates(number), default=0)
            if newest and (not before or before[-1][1] < newest):
                before.append((now, newest))
        return found

    def spent(self) -> tuple[float, float, int]:
        """(seconds that chunks were worked at, of these lost by death, how often); compiling is counted too."""
        whole, lost, deaths, claims = 0.0, 0.0, 0, Shared(self.out)
        for number in range(len(read(self.out / "chunks.json").chunks)):
            events = claims.events(number)
            for i, event in enumerate(events):
                if event.what != "began":
                    continue
                began = datetime.datetime.fromisoformat(event.time).timestamp()
                end = next((e for e in events[i + 1 :] if e.who == event.who), None)
                if end is not None and end.what != "began":
                    whole += datetime.datetime.fromisoformat(end.time).timestamp() - began
                    continue
                died = max(began, self.seen.get(event.who, began))
                kept = max([t for t, _ in self.saved.get(number, []) if began < t <= died], default=began)
                whole, lost, deaths = whole + died - began, lost + died - kept, deaths + 1
        return whole, lost, deaths


class Killer:
    """Kills one of the workers at random every few seconds: `each` of `carry_out`."""

    def __init__(self, watch: Watch, every: float, most: int, seed: int):
        self.watch, self.every, self.most, self.random = watch, every, most, random.Random(seed)
        self.kills, self.last = 0, time.time()

    def __call__(self, parents: list[int]) -> None:
        victims = sorted({*self.watch.look().values()})
        if victims and self.kills < self.most and time.time() - self.last >= self.every:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.random.choice(victims), signal.SIGKILL)
                self.kills, self.last = self.kills + 1, time.time()

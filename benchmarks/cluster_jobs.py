"""A job of SLURM that trains a sweep by the plain command, and is queued again where a signal has stopped that."""

import pathlib
import shlex
import subprocess
import time
from collections.abc import Callable

from cluster_ways import Watch

# The step hears SIGTERM before the job's time is over.
SCRIPT = """#!/bin/bash
srun -c $SLURM_CPUS_PER_TASK {command}
code=$?
[ $code -ne 143 ] || scontrol requeue $SLURM_JOB_ID
exit $code
"""
OVER = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY", "GONE")


class Job:
    """A job, submitted as it is made."""

    def __init__(self, command: list[str], out: pathlib.Path, limit: int, cores: int, env: dict[str, str]):
        """Args:
        command: `pgjax sweep ... --out DIR`.
        out: that folder; script and output are beside it.
        limit: minutes of each start.
        """
        self.out, self.watch = out, Watch(out)
        script = out.with_suffix(".sh")
        script.write_text(SCRIPT.format(command=shlex.join(command)))
        options = ["-t", str(limit), "-c", str(cores), "--requeue", "--open-mode=append", "--signal=TERM@20"]
        submit = ["sbatch", "--parsable", *options, f"--output={out.with_suffix('.log')}", str(script)]
        answer = subprocess.run(submit, env=env, check=True, capture_output=True, text=True)
        self.number = answer.stdout.strip().partition(";")[0]

    def requeue(self, at_once: bool) -> None:
        """Requeue the job in the middle of its training, and wait until it runs again.

        Args:
          at_once: let it not wait for the two minutes that SLURM has it wait.
        """
        self.until(lambda: any(update for update in self.saved().values()))
        before = self.saved()
        self.until(lambda: self.saved() != before)
        subprocess.run(["scontrol", "requeue", self.number], check=True)
        self.until(lambda: self.shown().get("JobState") == "PENDING")
        if at_once:
            subprocess.run(["scontrol", "update", f"JobId={self.number}", "StartTime=now"], check=True)
        self.until(lambda: self.shown().get("JobState") == "RUNNING")

    def saved(self) -> dict[str, int]:
        """Chunk -> its newest update in a checkpoint."""
        found: dict[str, int] = {}
        for place in self.out.glob("chunks/*/update-*"):
            found[place.parent.name] = max(found.get(place.parent.name, 0), int(place.name[7:]))
        return found

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that the job does; RuntimeError where the job ends without it."""
        while not condition():
            self.watch.look()
            if self.shown().get("JobState", "GONE") in OVER and not condition():
                raise RuntimeError(f"job {self.number} has ended; see {self.out.with_suffix('.log')}")
            time.sleep(0.5)

    def cancel(self) -> None:
        """End the job, if it hasn't ended."""
        subprocess.run(["scancel", self.number], check=True)

    def starts(self) -> int:
        """How often the job has been started."""
        return 1 + int(self.shown().get("Restarts", 0))

    def shown(self) -> dict[str, str]:
        """What SLURM says of the job."""
        said = subprocess.run(["scontrol", "show", "job", self.number], capture_output=True, text=True).stdout
        return dict(word.split("=", 1) for word in said.split() if "=" in word)

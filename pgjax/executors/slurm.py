"""SLURM, through submitit: a call is a job, which is requeued when it is preempted or its time is over, and goes on."""

import contextlib
import io
import os
import pathlib
import shutil
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from pgjax.dependencies import importing
from pgjax.executors.engine import Engine, failed

# A job that nobody gave a time has an hour, and hears from SLURM 30 s before its end.
DEFAULTS = {"job_name": "pgjax", "time": 60, "signal_delay_s": 30}
LISTS = ("setup", "teardown", "srun_args")
# Seconds that requeueing takes at most, and between two looks at the queue.
MARGIN, LOOK = 10, 10.0
# States of a job that doesn't run again by itself.
OVER = "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED TIMEOUT".split()


def engine(where: str, workers: int | None, folder: pathlib.Path) -> Engine:
    """Jobs with the options `where`, "partition=gpu,time=60,gpus_per_node=1": sbatch's long names, the time in minutes.

    What submitit writes, the jobs' output too, is in the run's folder below work, which the nodes must see.

    Raises:
      ValueError: where SLURM isn't there or doesn't answer, or refuses the options.
    """
    submitit = _submitit()
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise ValueError("on: slurm needs the commands sbatch and srun, which aren't here; start this on a login node")
    answer = subprocess.run(["scontrol", "ping"], capture_output=True, text=True)
    if answer.returncode:
        said = (answer.stdout + answer.stderr).strip().partition("\n")[0]
        raise ValueError(f"on: SLURM doesn't answer ({said}); see `scontrol ping`")
    executor = submitit.SlurmExecutor(folder / "work" / "slurm", max_num_timeout=10**6)
    executor.update_parameters(**options(where, executor._valid_parameters()))
    script = executor._make_submission_file_text("true", "")
    tried = subprocess.run(["sbatch", "--test-only"], input=script, capture_output=True, text=True)
    wrong = [x for x in tried.stderr.splitlines() if x.startswith(("sbatch: error", "sbatch: unrecognized"))]
    if tried.returncode and wrong:  # else no node is free now: the job will wait
        raise ValueError(f"on: slurm:{where}: {wrong[0]}")
    return of(executor, workers)


def _submitit() -> Any:
    with importing("submitit", "slurm", "on: slurm"):
        import submitit
    return submitit


def options(where: str, known: Iterable[str]) -> dict[str, Any]:
    """The parameters of submitit's SlurmExecutor; those that it doesn't know are for sbatch."""
    given: dict[str, Any] = {}
    for part in filter(None, where.split(",")):
        name, equals, value = part.partition("=")
        name = name.strip().replace("-", "_")
        if not name or not equals:
            raise ValueError(f"on: slurm takes NAME=VALUE,NAME=VALUE, such as partition=gpu,time=60; got {part!r}")
        number = int(value) if value.isascii() and value.isdigit() else value
        given[name] = [value] if name in LISTS else True if value.lower() == "true" else number
    given = {**DEFAULTS, **given}
    if not isinstance(given["time"], int) or given["time"] < 1:
        raise ValueError(f"on: slurm:time is a whole number of minutes from 1, got {given['time']!r}")
    # From SLURM 22.05 on srun no longer reads the job's own number, and could bind a worker to one core.
    sets = ['[ -z "$SLURM_CPUS_PER_TASK" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"']
    given["setup"] = sets + given.get("setup", [])
    more = {"requeue": True} | {name: given.pop(name) for name in list(given) if name not in set(known)}
    return given | {"additional_parameters": more}


def of(executor: Any, workers: int | None) -> Engine:
    """An executor of submitit as an engine; of its jobs only those that still wait can be taken back."""
    queue, saving = _Queue(), max(1, executor.parameters.get("signal_delay_s", 90) - MARGIN)
    jobs: list[_Job] = []

    def submit(function, *args):
        submitit = _submitit()
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # submitit prints there what it raises
                job = executor.submit(Requeued(function, saving), *args)
        except (OSError, submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedSubmissionError) as error:
            said = f"on: slurm: the job wasn't taken: {str(error).strip().splitlines()[-1]}"
            if jobs:  # the options are right: SLURM is busy, or away for a while
                return failed(RuntimeError(said))
            raise ValueError(said) from error
        jobs.append(_Job(job, queue if isinstance(job, submitit.SlurmJob) else None))
        return jobs[-1]

    def close(cancel=False):
        waiting = [task.job.job_id for task in jobs if task.queue is not None]
        if cancel and waiting:
            subprocess.run(["scancel", "--state=PENDING", *waiting], capture_output=True)

    return Engine("slurm", submit, workers, close=close)


class Requeued:
    """A call of submitit's that is requeued, and then begins again.

    Before its time is over it hears SIGTERM, as on any other engine, and has `seconds` to return.
    """

    def __init__(self, function: Callable[..., Any], seconds: int):
        self.function, self.seconds = function, seconds

    def __call__(self, *args: Any) -> Exception | None:
        """Call the function, and requeue the job if it was told to stop.

        Returns:
          the function's error, which submitit would make into text.
        """
        submitit = _submitit()
        number = getattr(signal, f"SIG{submitit.JobEnvironment.USR_SIG}")
        requeue: Any = signal.getsignal(number)
        asked = []

        def hear(signum, frame):
            asked.append(signum)
            signal.alarm(self.seconds)
            signal.raise_signal(signal.SIGTERM)

        def late(signum, frame):
            try:
                requeue(signum, frame)
            except SystemExit as end:
                os._exit(int(end.code or 0) % 256)

        signal.signal(number, hear)
        signal.signal(signal.SIGALRM, late)
        try:
            self.function(*args)
        except SystemExit:
            if not asked:
                raise
        except Exception as error:
            traceback.print_exc()
            return error
        finally:
            signal.alarm(0)
        if asked:
            requeue(number, None)
        return None

    def checkpoint(self, *args: Any) -> Any:
        """What submitit starts when the job runs again: the same call."""
        submitit = _submitit()
        return submitit.helpers.DelayedSubmission(self, *args)


class _Queue:
    """The user's jobs in the queue, looked at now and then: sacct needs accounting, which not every SLURM has."""

    def __init__(self) -> None:
        self.looked, self.there = float("-inf"), set[str]()

    def has(self, job: str, since: float) -> bool:
        """Whether the job, submitted at `since`, waits or runs; a queue that doesn't answer has it still."""
        if time.monotonic() - self.looked > LOOK:
            began = time.monotonic()
            command = ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i %T"]
            answer = subprocess.run(command, capture_output=True, text=True)
            if answer.returncode:
                return True
            pairs = (line.split() for line in answer.stdout.splitlines())
            self.looked, self.there = began, {name for name, state in pairs if state not in OVER}
        return job in self.there or since >= self.looked


class _Job:
    """A Task: a job that has left the queue is done, whatever it has written; when it was requeued it is not."""

    def __init__(self, job: Any, queue: _Queue | None):
        self.job, self.queue, self.since = job, queue, time.monotonic()

    def done(self) -> bool:
        if self.queue is None:
            return bool(self.job.done())
        return not self.queue.has(self.job.job_id, self.since)

    def exception(self) -> BaseException | None:
        first = self.job.task(0)
        if not first.paths.result_pickle.exists():
            return RuntimeError(f"job {self.job.job_id} ended without a result; see {first.paths.stderr}")
        try:
            found: BaseException | None = first.result()
        except Exception as error:  # what the job wrote can't be read here
            return error
        return found

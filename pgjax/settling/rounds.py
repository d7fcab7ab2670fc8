"""Adds seeds to both runs of a question, in rounds, until it is decided."""

import io
import pathlib
from typing import Any

from pgjax.engine import files, interrupts
from pgjax.engine.leases import planning
from pgjax.engine.programs import keep_compiled
from pgjax.errors import ChunkError
from pgjax.runs import folder
from pgjax.runs.execute import execute
from pgjax.runs.jobs import extended_job, resumed_job
from pgjax.runs.run import Run
from pgjax.runs.start import new_job
from pgjax.settling import drawing, telling
from pgjax.settling.question import FILE, Question, asked, there
from pgjax.settling.schedule import following
from pgjax.settling.settlement import Settlement, settlement


def settle(a: Any, b: Any, env: Any, *, out: str | pathlib.Path, progress: bool = True, **options: Any) -> Settlement:
    """Train two algorithms on the same seeds, in rounds, until it is settled which has the better final returns.

    Example: `pgjax.settle("ppo clip_eps=.1", "ppo clip_eps=.2", "CartPole-v1", out="runs/clip", margin=10)`.

    After each round a confidence sequence of A - B, seed by seed, is looked at. It may be looked at as often as one
    likes: a false verdict has a probability of no more than `error`, whenever one stops (with bounds; without, in the
    limit of many seeds: see `pgjax.statistics.sequences`). The runs are those of the folders a and b in `out`; the same
    call again goes on, or returns the verdict that there is, to the last bit.

    Args:
      a, b: the arms: "ppo clip_eps=.1", an algorithm and its settings, among them loss=, advantage=, estimator=,
        optimizer=, updater= and policy=; or in Python an Algorithm, or (algorithm, {name: value}).
      env: see `pgjax.run`; both arms have the same.
      out: the folder; where it holds this very question, that goes on.
      margin: also stop where the interval lies within [-margin, margin]: the arms are equivalent. None never does.
      error: the probability of a false verdict, at most.
      most: seeds of each arm, at most; a larger number goes on with an undecided question.
      by: "mean", or "iqm" for the difference of interquartile means.
      bounds: (low, high), of every possible return; known for some environments, see `envs.return_bounds`; "none" uses
        none. With bounds a seed that failed counts as the lower one; without, its pair is left out, and named. Where
        returns differ by much less than their bounds, an interval without bounds is narrower.
      batch: seeds of the first round; the k-th adds half as many as there are, in whole batches. Seeds of a batch are
        trained together, so a GPU wants more of them.
      seed, steps, updates, settings: of both arms, as in `pgjax.run`.
      progress: show a live bar.

    Raises:
      ValueError, TypeError: for bad input, before anything is trained; and for a return outside of the bounds.
      ChunkError: where lanes failed three times to be trained at all.
    """
    found = carried_out(asked(a, b, env, out=out, **options), progress)
    interrupts.end(found.signal)
    return found


def carried_out(question: Question, progress: bool = True) -> Settlement:
    """Go on with a question until it is decided, stopped by a signal, or has all its seeds."""
    path, most = question.path, question.record["most"]
    signal: int | None = None
    _begin(question)
    keep_compiled(path / "work" / "compiled")  # every round runs the programs of the first
    with planning(path):
        while signal is None:
            found = _written(question)
            if found.after is not None or len(found.seeds) >= most:
                return found
            count = following(len(found.seeds), question.record["batch"], most)
            for arm, name in enumerate("ab"):
                run = _grown(path / name, count, question.objects(arm), progress)
                if failed := run.summary["failed_chunks"]:
                    raise ChunkError("; ".join(failed.values()))
                signal = run.signal
                if signal is not None or run.interrupted:
                    break
        return _written(question, signal)


def _begin(question: Question) -> None:
    """Make the folder of a question and of its runs, or find them begun."""
    if not there(question.path):
        if not files.remote(question.path):
            question.path.mkdir(parents=True, exist_ok=True)
        folder.write_json(question.path / FILE, question.record)
    for name, arm in zip("ab", question.arms, strict=True):
        new_job(**arm, out=question.path / name)


def _grown(path: pathlib.Path, seeds: int, objects: dict[str, Any], progress: bool) -> Run:
    """The run of one arm with so many seeds, or as far as a signal let it come."""
    run = Run.open(path, **objects)
    if run.interrupted:
        run = execute(resumed_job(path, **objects), progress)
        if run.interrupted:
            return run
    if len(run.seeds) < seeds and run.signal is None:
        run = execute(extended_job(path, seeds=seeds, **objects), progress)
    return run


def _written(question: Question, signal: int | None = None) -> Settlement:
    """What there is by now, written as verdict.json and settle.png."""
    found = settlement(question.path, (question.objects(0), question.objects(1)), signal)
    folder.write_json(question.path / "verdict.json", telling.as_json(found))
    if found.sequence is not None:
        drawing.draw(found, figure := io.BytesIO())
        files.replace_bytes(question.path / "settle.png", figure.getvalue())
    return found

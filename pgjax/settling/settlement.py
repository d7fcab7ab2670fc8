"""What the runs of a question come to by now: the pairs of returns, their confidence sequences and the verdict."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pgjax import analysis
from pgjax.runs.run import Run
from pgjax.settling.question import read
from pgjax.statistics import sequences

METHODS = {
    "betting": "hedged capital betting (Waudby-Smith and Ramdas 2024), valid at every number of seeds",
    "asymptotic": f"asymptotic (Waudby-Smith et al. 2024), valid in the limit of many seeds; from {sequences.START} on",
}


class Settlement(NamedTuple):
    """A question with the answer that its folder holds.

    Attributes:
      path: the folder.
      question: the content of settle.json.
      runs: the runs of A and of B.
      seeds: [N] those of both arms, of whole rounds alone.
      returns: [2, N] final return of each seed of A and of B; NaN where it has none.
      lost: A's and B's seeds without a final return, which `pgjax show` counts as failed or without a score.
      pairs: [2, P] the returns that count: with bounds those that are lost are the lower bound, else their pairs are
        left out.
      mean, iqm: the confidence sequence of A - B of either, after each of the P pairs; None without pairs.
      after: pairs after which the question was decided; None where it isn't.
      verdict: the answer in words.
      signal: number of the signal that stopped this process, or None.
    """

    path: pathlib.Path
    question: dict[str, Any]
    runs: tuple[Run, Run]
    seeds: np.ndarray
    returns: np.ndarray
    lost: tuple[list[int], list[int]]
    pairs: np.ndarray
    mean: sequences.Sequence | None
    iqm: sequences.Sequence | None
    after: int | None
    verdict: str
    signal: int | None = None

    @property
    def sequence(self) -> sequences.Sequence | None:
        """The sequence that is asked for."""
        return self.iqm if self.question["by"] == "iqm" else self.mean

    @property
    def methods(self) -> dict[str, str]:
        """The method of each sequence: "mean" and "iqm"."""
        known = self.question["bounds"] is not None
        return {"mean": METHODS["betting" if known else "asymptotic"], "iqm": METHODS["asymptotic"]}

    @property
    def told(self) -> str:
        """The verdict with its numbers, as a sentence."""
        found = self.sequence
        if found is None:
            return self.verdict
        at = (self.after or len(found.estimate)) - 1
        level = f"{100 * (1 - self.question['error']):g} %"
        ends = f"{level} from {found.low[at]:.4g} to {found.high[at]:.4g}"
        said = "mean" if self.question["by"] == "mean" else "IQM"
        return f"{self.verdict}: the {said} of A - B is {found.estimate[at]:.4g}, {ends}"

    @property
    def left_out(self) -> str:
        """A line on seeds without a final return; "" where every seed has one."""
        names = [f"{name}: {', '.join(map(str, seeds))}" for name, seeds in zip("AB", self.lost, strict=True) if seeds]
        if not names:
            return ""
        bounds = self.question["bounds"]
        how = (
            f"each counts as {bounds[0]:g}, the lowest there is" if bounds else "these pairs are left out (no --bounds)"
        )
        return f"seeds without a final return ({'; '.join(names)}): {how}"


def settlement(
    path: pathlib.Path, objects: Sequence[dict[str, Any]] = ({}, {}), signal: int | None = None
) -> Settlement:
    """What a folder has come to: a function of its content alone.

    Args:
      objects: for A and B, the objects that can't be imported again: see `pgjax.load`.

    Raises:
      ValueError: where a return lies outside of the bounds.
    """
    question = read(path)
    runs = (Run.open(path / "a", **objects[0]), Run.open(path / "b", **objects[1]))
    found = [_finals(run) for run in runs]
    count = min(len(seeds) for seeds, _ in found)
    seeds, returns = found[0][0][:count], np.array([finals[:count] for _, finals in found])
    have, bounds = np.isfinite(returns), question["bounds"]
    lost = (seeds[~have[0]].tolist(), seeds[~have[1]].tolist())
    if bounds is None:
        pairs = returns[:, have.all(axis=0)]
    else:
        _check(seeds, returns, bounds)
        pairs = np.where(have, returns, bounds[0])
    mean = iqm = None
    if pairs.shape[1]:
        difference, error = pairs[0] - pairs[1], question["error"]
        if bounds is None:
            mean = sequences.asymptotic(difference, error)
        else:
            mean = sequences.betting(difference, bounds[0] - bounds[1], bounds[1] - bounds[0], error)
        iqm = sequences.iqm_difference(pairs[0], pairs[1], error)
    after, verdict = decided(iqm if question["by"] == "iqm" else mean, question["margin"])
    return Settlement(path, question, runs, seeds, returns, lost, pairs, mean, iqm, after, verdict, signal)


def decided(sequence: sequences.Sequence | None, margin: float | None) -> tuple[int | None, str]:
    """After how many pairs the interval first leaves out 0 or lies within the margin, and the verdict."""
    if sequence is None:
        return None, "undecided: no whole round yet"
    low, high = sequence.low, sequence.high
    sound = low <= high  # crossed ends say nothing: the sequence has lost the true value
    verdicts = {"A is better": sound & (low > 0), "B is better": sound & (high < 0)}
    if margin is not None:
        verdicts[f"equivalent within the margin of {margin:g}"] = sound & (low >= -margin) & (high <= margin)
    first = {words: int(np.argmax(holds)) + 1 for words, holds in verdicts.items() if holds.any()}
    if not first:
        return None, f"undecided after {len(low)} pairs"
    words = min(first, key=lambda one: first[one])
    return first[words], f"{words} after {first[words]} pairs"


def _finals(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """The seeds of whole rounds [N] of a run, and their final returns [N], NaN where there is none."""
    if not run.begun:
        return np.empty(0, int), np.empty(0)
    chunks = run.schedule.chunks
    whole = {seed for c in chunks if not run.interrupted or c.stage < chunks[-1].stage for _, seed in c.lanes}
    if not whole:
        return np.empty(0, int), np.empty(0)
    (row,) = analysis.rows(run.metrics)
    kept = np.isin(row.seeds, list(whole))
    return row.seeds[kept], row.finals[kept].astype(float)


def _check(seeds: np.ndarray, returns: np.ndarray, bounds: Sequence[float]) -> None:
    for name, values in zip("AB", returns, strict=True):
        outside = (values < bounds[0]) | (values > bounds[1])
        if outside.any():
            i = int(np.argmax(outside))
            raise ValueError(
                f"bounds: {bounds[0]:g},{bounds[1]:g} don't hold the return {values[i]:g} of {name}'s seed {seeds[i]}; "
                "ask in another folder, with bounds that hold every possible return"
            )

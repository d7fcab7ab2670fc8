"""Writes the report of runs: one self-contained HTML page, which holds its figures and its style."""

import pathlib
from collections.abc import Sequence

from pgjax.report.comparison import comparison
from pgjax.report.html import page
from pgjax.report.sections import section
from pgjax.runs import folder as runs_folder
from pgjax.runs.run import Run
from pgjax.sweeps.values import place

__all__ = ["write"]


def write(folders: str | pathlib.Path | Sequence[str | pathlib.Path], out: str | pathlib.Path) -> pathlib.Path:
    """Write the report of one run folder, or of several and their comparison.

    Args:
      folders: one or more run folders, of `pgjax train` or `pgjax.run(..., out=...)`.
      out: the HTML file; one that exists is written over, and missing folders above it are made.

    Returns:
      where it was written.

    Raises:
      ValueError: in one line, for no folder, a folder that is no run's or has no metrics, JSON that is torn, the
        same folder twice, or an `out` that can't be written.
    """
    out = place("out", out)
    if out.is_dir():
        raise ValueError(
            f"out: {str(out)!r} is a folder; give the name of the HTML file, such as {out / 'report.html'}"
        )
    runs = _named([folders] if isinstance(folders, (str, pathlib.Path)) else list(folders))
    parts = [comparison(runs)] if len(runs) > 1 else []
    title = " and ".join(dict.fromkeys(run.title for run in runs.values()))
    text = page(title, [*parts, *(section(run, name if len(runs) > 1 else "") for name, run in runs.items())])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"out: can't write {str(out)!r}: {error.strerror}; choose another place") from error
    return out


def _named(folders: list[str | pathlib.Path]) -> dict[str, Run]:
    """Each run by the name of its folder, or by its whole path where two have the same name; in the order given."""
    if not folders:
        raise ValueError("folders: none was given; give one run folder or more")
    paths = [place("folders", folder) for folder in folders]
    for i, path in enumerate(paths):
        if path.resolve() in (other.resolve() for other in paths[:i]):
            raise ValueError(f"folders: {str(path)!r} was given twice; give each run once")
    names = [path.resolve().name for path in paths]
    names = [str(path) if names.count(name) > 1 else name for path, name in zip(paths, names, strict=True)]
    return {name: _written(Run.open(path)) for path, name in zip(paths, names, strict=True)}


def _written(run: Run) -> Run:
    """The run, if its results were written and its config.json says where it was trained; else a ValueError."""
    runs_folder.require(run.folder / "config.json", run.config, ("versions", "device"))
    if not run.summary:
        raise ValueError(runs_folder.lacking(run.folder / "summary.json"))
    return run

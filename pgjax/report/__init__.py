"""Writes the report of runs: one self-contained HTML page, which holds its figures and its style."""

import pathlib
from collections.abc import Sequence

from pgjax.engine import files
from pgjax.report import settled
from pgjax.report.comparison import comparison
from pgjax.report.html import page
from pgjax.report.sections import section
from pgjax.runs import folder as runs_folder
from pgjax.runs.run import Run
from pgjax.settling.question import there
from pgjax.settling.settlement import settlement
from pgjax.sweeps.values import place

__all__ = ["write"]


def write(folders: str | pathlib.Path | Sequence[str | pathlib.Path], out: str | pathlib.Path) -> pathlib.Path:
    """Write the report of one run folder, or of several and their comparison; and of what `settle` wrote.

    Args:
      folders: one or more run folders, of `pgjax train` or `pgjax.run(..., out=...)`, or folders of `pgjax settle`.
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
    given = [folders] if isinstance(folders, (str, pathlib.Path)) else list(folders)
    found = [settlement(path) for folder in given if there(path := place("folders", folder))]
    runs = _named([arm for folder in given for arm in _runs(folder)])
    parts = [settled.settled(one) for one in found]
    parts += [comparison(runs)] if len(runs) > 1 and len(runs) > 2 * len(found) else []
    titles = [settled.title(one) for one in found] or [run.title for run in runs.values()]
    title = " and ".join(dict.fromkeys(titles))
    text = page(title, [*parts, *(section(run, name if len(runs) > 1 else "") for name, run in runs.items())])
    try:
        if not files.remote(out):
            out.parent.mkdir(parents=True, exist_ok=True)
        files.replace_text(out, text)
    except OSError as error:
        raise ValueError(f"out: can't write {str(out)!r}: {files.reason(out, error)}; choose another place") from error
    return out


def _runs(folder: str | pathlib.Path) -> list[str | pathlib.Path]:
    """The run folder itself, or those of the arms of a settlement."""
    path = place("folders", folder)
    return [path / name for name in ("a", "b")] if there(path) else [folder]


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

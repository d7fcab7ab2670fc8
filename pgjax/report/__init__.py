"""Run folders in; one self-contained HTML page out: figures and style are inside, nothing is loaded from elsewhere."""

import pathlib
from collections.abc import Sequence

from pgjax.report.comparison import comparison
from pgjax.report.html import page
from pgjax.report.sections import section
from pgjax.runs.read import read
from pgjax.sweeps.values import place

__all__ = ["write"]


def write(folders: str | pathlib.Path | Sequence[str | pathlib.Path], out: str | pathlib.Path) -> pathlib.Path:
    """Write the report of one run folder, or of several and their comparison.

    Args:
      folders: what `pgjax train` or `pgjax.run(..., out=...)` wrote, one or more.
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
    runs = read([folders] if isinstance(folders, (str, pathlib.Path)) else list(folders))
    parts = [comparison(runs)] if len(runs) > 1 else []
    title = " and ".join(dict.fromkeys(run.title for run in runs))
    text = page(title, [*parts, *(section(run, alone=len(runs) == 1) for run in runs)])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"out: can't write {str(out)!r}: {error.strerror}; choose another place") from error
    return out

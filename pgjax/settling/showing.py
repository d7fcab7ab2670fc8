"""What `pgjax show` and `pgjax settle` print of a settlement."""

import shlex
from typing import Any

from pgjax.dependencies import importing
from pgjax.settling import telling
from pgjax.settling.settlement import Settlement


def lines(found: Settlement) -> list[Any]:
    """The arms, how they are judged, the table of rounds, the seeds without a final return, and the verdict."""
    question = found.question
    out: list[Any] = [f"A: {question['a']}", f"B: {question['b']}", f"on {question['env']}: {found.path}"]
    if question["command"]:
        out.append(f"made by: {shlex.join(question['command'])}")
    out += [f"{'IQM' if name == 'iqm' else name}: {method}" for name, method in found.methods.items()]
    if rows := telling.rows(found):
        with importing("rich"):
            from rich.table import Table

        table = Table(title="final returns and their differences, after each round", title_justify="left")
        for column in telling.HEAD:
            table.add_column(column, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        out.append(table)
    return [*out, *filter(None, [found.left_out]), found.told]

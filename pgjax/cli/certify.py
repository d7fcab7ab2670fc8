"""The command `certify`: what the expected update of a plug ascends, on screen, as a page and as JSON."""

from typing import Any

from pgjax import certificates
from pgjax.algorithms.roster import ROSTER
from pgjax.certificates import VERDICTS, showing
from pgjax.cli.common import Action, make_console, pairs, stamp
from pgjax.cli.options_reading import Certify
from pgjax.dependencies import importing
from pgjax.report import certificate
from pgjax.runs import folder, record
from pgjax.sweeps import user_code, values

ROSTER_HEAD = ("algorithm", "the mean update is the", "first seen", "with an exact critic", "another policy acting")


def certify(options: Certify, words: list[str]) -> Action:
    """Check the options of `pgjax certify`; the function returned certifies, writes and prints."""
    if options.roster == bool(options.plug):
        raise ValueError("certify: give a plug, such as file.py:my_loss or a name of `pgjax list`, or --roster")
    batch = None
    if options.batch is not None:
        batch = [values.whole("batch", size) for size in options.batch.split(",")]
    discount = None if options.discount is None else values.convert("discount", options.discount, 1.0)
    if discount is not None and not 0 < discount <= 1:
        raise ValueError(f"--discount must lie in (0, 1], got {options.discount}")
    worlds = None if options.worlds is None else options.worlds.split(",")
    given: dict[str, Any] = {"batch": batch, "discount": discount, "worlds": worlds}
    if options.roster:
        if options.kind or options.set:
            raise ValueError("--roster certifies every row as it is; leave --kind and --set out")
        return lambda: _roster(given, options.out, words)
    spec = options.plug if ":" in options.plug else None
    plug = user_code.load(options.plug, "certify") if spec else options.plug
    hypers = pairs("--set", options.set, "name=value")
    for name in (*given, "kind"):
        if name in hypers:
            raise ValueError(f"--set {name} is no hyperparameter here; give --{name}")
    given |= hypers
    path = values.local_place("out", options.out or f"runs/certify-{options.plug.rpartition(':')[2]}-{stamp()}")

    def act() -> int:
        made = folder.create(path, {"command": ["pgjax", *words], **record.machine()})
        try:
            found = certificates.certify(plug, options.kind, **given)
        except (ValueError, TypeError):
            folder.discard(made)
            raise
        console = make_console()
        console.print("\n".join(showing.lines(found)), highlight=False, markup=False)
        shown = [case for case in found.on_policy() if case.discount == found.example.discount]
        console.print(_table(showing.HEAD, showing.rows(shown)))
        if len(shown) < len(found.on_policy()):
            console.print(f"(discount {found.example.discount:g}; the page has all cases)", highlight=False)
        if found.verdict != VERDICTS[0]:
            console.print("\n".join(["", *showing.example(found)]), highlight=False, markup=False, soft_wrap=True)
        console.print("\nAs a test:\n\n" + showing.test(found, spec), highlight=False, markup=False, soft_wrap=True)
        certificate.write(found, path, spec)
        console.print(f"written to {path}", highlight=False, markup=False, soft_wrap=True)
        return 0

    return act


def _roster(given: dict[str, Any], out: str | None, words: list[str]) -> int:
    path = values.local_place("out", out or f"runs/certify-roster-{stamp()}")
    folder.create(path, {"command": ["pgjax", *words], **record.machine()})
    console, rows = make_console(), []
    for name in ROSTER:
        try:
            found = certificates.certify(name, **given)
        except ValueError as error:
            rows.append([name, f"not certified: {str(error).removeprefix('certify: ')}", "", "", ""])
        else:
            (path / name).mkdir()
            certificate.write(found, path / name)
            detail = found.example.verdict.detail
            seen = f"{found.example.where}{': ' if detail else ''}{detail}"
            rows.append([name, found.verdict, seen, found.with_exact_critic, found.off_policy])
        console.print(f"{rows[-1][0]}: {rows[-1][1]}", highlight=False, markup=False)
    console.print(_table(ROSTER_HEAD, rows))
    console.print(f"a page for each in {path}", highlight=False, markup=False, soft_wrap=True)
    return 0


def _table(head: tuple[str, ...], rows: list[list[str]]) -> Any:
    with importing("rich"):
        from rich.table import Table

    table = Table(*head, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    return table

"""Writes a certificate as a page and as JSON."""

import pathlib

from pgjax.certificates import Certificate, showing
from pgjax.report.html import code, heading, page, paragraph, table
from pgjax.runs import folder


def write(found: Certificate, path: pathlib.Path, spec: str | None = None) -> None:
    """Write certificate.html and certificate.json into the folder.

    Args:
      spec: file.py:name or module:name of the plug, for the test that the page offers.
    """
    groups = {
        "The policy that learns acts": found.on_policy(),
        "The same with an exact critic": found.on_policy("exact"),
        "Another policy acts": [case for case in found.cases if not case.on_policy],
    }
    parts = [paragraph(text.strip()) for text in showing.lines(found)]
    parts += [heading("The smallest example", 2), code("\n".join(showing.example(found)[2:]))]
    parts += [paragraph("As a test:"), code(showing.test(found, spec)), heading("All cases", 2)]
    parts.append(paragraph(showing.READING, "note"))
    for name, cases in groups.items():
        if cases:
            parts += [heading(name), table(showing.HEAD, showing.rows(cases), (0, 3))]
    worlds = [[world.name, world.summary] for world in found.worlds]
    parts += [heading("The worlds", 2), table(("world", ""), worlds, (0, 1))]
    (path / "certificate.html").write_text(page(f"What {found.name} ascends", parts), encoding="utf-8")
    folder.write_json(path / "certificate.json", showing.plain(found))

"""Turns text, tables and figures into HTML, and escapes all text."""

import base64
import html
import io
from collections.abc import Callable, Iterable, Sequence

from pgjax import __version__
from pgjax.analysis import NothingToDrawError

STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --paper: #fff; --soft: #5d6675; --line: #d8dce3; --tint: #f2f4f7;
  --warn: #8a4b00; --warntint: #fff4e0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ec; --paper: #15181d; --soft: #9aa3b2; --line: #363c46;
  --tint: #1f242b; --warn: #ffc978; --warntint: #33280f; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 80rem;
  margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.3rem; margin-top: 2.6rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; }
pre { background: var(--tint); padding: .7rem .9rem; border-radius: 6px; overflow-x: auto; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } th.text, td.text { text-align: left; white-space: normal; }
td.sure { font-weight: 700; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.note { color: var(--soft); font-size: .9rem; }
.warning { color: var(--warn); background: var(--warntint); padding: .6rem .9rem; border-radius: 6px; }
figure { margin: .4rem 0 1.2rem; } figure img { max-width: 100%; background: #fff; padding: .5rem; border-radius: 6px;
  box-sizing: border-box; }
summary { cursor: pointer; color: var(--soft); }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """The whole document: its title, and parts that are HTML."""
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    body = f"<h1>{escape(title)}</h1>" + "".join(parts) + f'<p class="note">pgjax {escape(__version__)}</p>'
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}<title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body>{body}</body></html>\n"
    )


def escape(text: object) -> str:
    """Text as HTML shows it."""
    return html.escape(str(text), quote=True)


def heading(text: str, level: int = 3) -> str:
    """A heading; level 1 is the title of the page."""
    return f"<h{level}>{escape(text)}</h{level}>\n"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; its kind is "note", "warning" or ""."""
    return f'<p class="{kind}">{escape(text)}</p>\n' if kind else f"<p>{escape(text)}</p>\n"


def code(text: str) -> str:
    """A block of code."""
    return f"<pre><code>{escape(text)}</code></pre>\n"


def facts(pairs: dict[str, object]) -> str:
    """A list of names with their values."""
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in pairs.items()) + "</dl>\n"


def folded(summary: str, content: str) -> str:
    """HTML that is hidden until the reader opens its summary."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>\n"


def table(
    head: Sequence[str],
    lines: Sequence[Sequence[object]],
    text: Sequence[int] = (0,),
    sure: Iterable[tuple[int, int]] = (),
) -> str:
    """A table; the columns `text` are set to the left, the cells (row, column) of `sure` are bold."""
    bold = set(sure)

    def cell(tag, value, line, column):
        kinds = " ".join(["text"] * (column in text) + ["sure"] * ((line, column) in bold))
        return f'<{tag} class="{kinds}">{escape(value)}</{tag}>' if kinds else f"<{tag}>{escape(value)}</{tag}>"

    rows = ["".join(cell("th", value, None, j) for j, value in enumerate(head))]
    rows += ["".join(cell("td", value, i, j) for j, value in enumerate(line)) for i, line in enumerate(lines)]
    return '<div class="wide"><table>' + "".join(f"<tr>{row}</tr>\n" for row in rows) + "</table></div>\n"


def figure(name: str, draw: Callable[[io.BytesIO], None], caption: str = "") -> str:
    """A heading and the figure that `draw` writes, inside the page; or why there is nothing to draw."""
    file = io.BytesIO()
    try:
        draw(file)
    except NothingToDrawError as error:
        return heading(name) + paragraph(f"Not drawn: {error}.", "note")
    image = base64.b64encode(file.getvalue()).decode()
    width = int.from_bytes(file.getvalue()[16:20]) * 5 // 8  # the PNG's pixels, at 150 to the inch; a page has 96
    said = paragraph(caption, "note") if caption else ""
    shown = f'<img alt="{escape(name)}" width="{width}" src="data:image/png;base64,{image}">'
    return f"{heading(name)}{said}<figure>{shown}</figure>\n"

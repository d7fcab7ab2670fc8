"""Writes the section of the page about a settlement."""

import functools
import shlex

from pgjax.report.html import code, facts, figure, heading, paragraph, table
from pgjax.settling import drawing, telling
from pgjax.settling.settlement import Settlement


def settled(found: Settlement) -> str:
    """The arms, the verdict, the intervals against the number of seeds, and the table of rounds."""
    question = found.question
    parts = [heading(title(found), 2), paragraph(f"{found.told}.")]
    if question["command"]:
        parts += [paragraph("The command:"), code(shlex.join(question["command"]))]
    margin = question["margin"]
    parts.append(
        facts(
            {
                "A": question["a"],
                "B": question["b"],
                "folder": found.path,
                "decides": "the interquartile mean" if question["by"] == "iqm" else "the mean",
                "false verdicts": f"a share of {question['error']:g} at most, whenever one stops",
                "margin": "none: only a difference ends it" if margin is None else f"{margin:g}",
                "bounds": "none" if question["bounds"] is None else "{:g} to {:g}".format(*question["bounds"]),
                "interval of the mean": found.methods["mean"],
                "interval of the IQM": found.methods["iqm"],
            }
        )
    )
    parts.append(paragraph(found.left_out, "warning") if found.left_out else "")
    said = (
        "Each interval holds the true difference at all numbers of seeds together with the probability of its level, "
    )
    said += "so it may be looked at after each. A and B have the same seeds, and differences are taken seed by seed."
    parts.append(figure("The difference against the number of seeds", functools.partial(drawing.draw, found), said))
    parts.append(heading("Rounds") + table(telling.HEAD, telling.rows(found)))
    said = "Both runs by themselves follow. Intervals there are for a number of seeds that was fixed before, so they "
    said += "don't tell A from B: the intervals above do."
    parts.append(paragraph(said, "note"))
    return "".join(parts)


def title(found: Settlement) -> str:
    """'A: ppo or B: trpo on Acrobot-v1'."""
    return f"A: {found.question['a']} or B: {found.question['b']} on {found.question['env']}"

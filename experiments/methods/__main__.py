"""`python -m experiments.methods` prints the table of the methods in markdown, which README.md holds.

With --smoke each method is trained too, for two updates of a tiny network.
"""

import argparse
import ast
import io
import pathlib
import statistics
import tokenize
from typing import Any

from experiments.methods.table import HERE, METHODS, load, train
from pgjax.algorithms.roster import ROSTER
from pgjax.hyperparameters import hyperparameters


def lines(source: str) -> int:
    """The lines of code: without imports, docstrings, comments, decorators and lines of closing brackets alone."""
    code = {
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        and token.string.strip(")]},:")
    }
    for node in ast.walk(ast.parse(source)):
        left_out = [node] if isinstance(node, (ast.Import, ast.ImportFrom)) else getattr(node, "decorator_list", [])
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            left_out = [node]
        code -= {n for x in left_out for n in range(x.lineno, (x.end_lineno or 0) + 1)}
    return len(code)


def count(name: str) -> int:
    """The lines of code of a method's file."""
    return lines((HERE / f"{name}.py").read_text())


def own(name: str) -> list[str]:
    """The hyperparameters that a method brings: those of its plug; of an algorithm, those of no plug of the package."""
    method, plug = METHODS[name], load(name)
    if method.plug == "policy":
        return []
    if method.plug == "algorithm":
        known = {(i, k) for row in ROSTER.values() for i in range(3) for k in hyperparameters(row.algorithm[i])}
        return [k for i in range(3) for k in hyperparameters(plug.algorithm[i]) if (i, k) not in known]
    wrapped = hyperparameters(ROSTER[method.base].algorithm.estimator) if method.plug == "estimator" else {}
    return [k for k in hyperparameters(plug) if k not in wrapped or k in method.sweep]


def page() -> str:
    """The table in markdown, and the median of the lines."""
    head = "| method | paper | lines | its hyperparameters | plug | verified by |"
    rows = [
        f"| [{name}]({name}.py) | {method.paper} | {count(name)} | {', '.join(own(name)) or '-'} | "
        f"{method.plug if method.plug == 'algorithm' else f'{method.plug} of {method.base}'} | {method.verified} |"
        for name, method in METHODS.items()
    ]
    middle = f"Median: {statistics.median(map(count, METHODS)):g} lines of {len(METHODS)} methods."
    return "\n".join([head, "|---|---|---|---|---|---|", *rows, "", middle])


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Print the table; with --smoke train each method too, and return the runs by name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="also train each method for two updates")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/methods"))
    options = parser.parse_args(arguments)
    print(page())
    return {name: train(name, out=options.out / name) for name in METHODS} if options.smoke else {}


if __name__ == "__main__":
    main()

"""The gallery of methods, which lies beside the package: its table and its page."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
try:
    from experiments.methods import __main__ as page
    from experiments.methods import table
finally:
    sys.path.remove(str(ROOT))

__all__ = ["ROOT", "page", "table"]

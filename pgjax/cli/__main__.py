"""`python -m pgjax.cli` is the command `pgjax`, as `python -m pgjax` is."""

import sys

from pgjax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

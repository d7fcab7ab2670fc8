"""`python -m pgjax` is the command `pgjax`."""

import sys

from pgjax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m pgjax` is the command `pgjax`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("pgjax.cli", run_name="__main__", alter_sys=True)

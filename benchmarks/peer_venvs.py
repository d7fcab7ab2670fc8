"""The environments that the peers live in: found, or made from their requirements files."""

import pathlib
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).parent
NAMES = ("rejax", "torch")


def find(name: str, python: str | None, folder: pathlib.Path | None) -> str:
    """The interpreter of the environment `name`.

    Args:
      python: its path, or None.
      folder: where environments are kept, each under its name; one that is missing is made there.

    Raises:
      LookupError: where there is none, and none can be made.
    """
    if python is not None:
        if not pathlib.Path(python).is_file():
            raise LookupError(f"--{name}-python: no interpreter at {python}")
        return python
    if folder is None:
        raise LookupError(f"no --{name}-python and no --venvs")
    made = folder.absolute() / name
    interpreter, finished = made / "bin" / "python", made / "requirements.txt"
    requirements = HERE / f"requirements-{name}.txt"
    if not finished.is_file() or finished.read_text() != requirements.read_text():
        print(f"making the environment {made}", file=sys.stderr, flush=True)
        try:
            venv.create(made, with_pip=True, clear=True)
            install = [str(interpreter), "-m", "pip", "install", "--quiet", "-r", str(requirements)]
            subprocess.run(install, check=True, stdout=sys.stderr)
        except (OSError, subprocess.CalledProcessError) as error:
            raise LookupError(f"--venvs: can't make {made}: {error}") from error
        finished.write_text(requirements.read_text())
    return str(interpreter)

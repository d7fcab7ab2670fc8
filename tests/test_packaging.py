"""What pyproject.toml and .ci say agrees with what the package is."""

import ast
import pathlib
import re
import sys
import tomllib

import pytest

from pgjax.cli.options import COMMANDS

ROOT = pathlib.Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# A distribution that isn't called as what is imported.
CALLED = {
    "imageio_ffmpeg": "imageio-ffmpeg",
    "pygame": "pygame-ce",
    "PIL": "pillow",
    "upath": "universal-pathlib",
    "mujoco_playground": "playground",
    "envelope": "jax-envelope",
}


def _named(requirements):
    return {re.match(r"[\w-]+", line).group().lower() for line in requirements}


def _imported(path):
    """Root names of every absolute import in a file, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", sorted(ROOT.glob("pgjax/**/*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_imported_is_declared(path):
    extras = PROJECT["optional-dependencies"]
    declared = _named(PROJECT["dependencies"]).union(*(_named(extras[name]) for name in extras if name != "test"))
    needed = {CALLED.get(name, name).lower() for name in _imported(path)} - {"pgjax"} - set(sys.stdlib_module_names)
    assert needed <= declared


def test_the_test_extra_holds_those_of_reading_checkpoints_of_video_and_of_addresses():
    extras = PROJECT["optional-dependencies"]
    assert set(extras["test"]) >= {*extras["lm"], *extras["video"], *extras["remote"]}


def test_no_requirement_is_a_name_that_another_project_has_on_pypi():
    every = [*PROJECT["dependencies"], *sum(PROJECT["optional-dependencies"].values(), [])]
    assert PROJECT["name"] == "pgjax-research" and not _named(every) & {"pgjax", "pgjax-research"}


def test_every_requirement_has_a_lowest_version():
    """`.ci/bare oldest` installs them, from lines of just this form."""
    lines = re.search(r"^dependencies = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S).group(1)
    for line in lines.strip().splitlines():
        assert re.match(r' *"[A-Za-z0-9_-]+>=[0-9.]+[^"]*",', line), line


@pytest.mark.parametrize("name", COMMANDS)
def test_every_subcommand_is_run_on_a_bare_install(name):
    assert re.search(rf"^run pgjax {name}\b", (ROOT / ".ci/smoke").read_text(), re.M)

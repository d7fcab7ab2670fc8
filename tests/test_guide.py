"""The guide `pgjax/README.md`: its skeletons run as they stand. The files and names in it, and in README.md, exist."""

import importlib
import pathlib
import re

import pytest

from pgjax import envs

ROOT = pathlib.Path(__file__).parents[1]
GUIDE = (ROOT / "pgjax" / "README.md").read_text()
PROSE = re.sub(r"```python\n.*?```", "", GUIDE, flags=re.DOTALL)
PARTS = {part.splitlines()[0]: part for part in re.split(r"^## ", GUIDE, flags=re.MULTILINE)[1:]}
SKELETONS = {
    f"{name}, {i}": code
    for name, part in PARTS.items()
    for i, code in enumerate(re.findall(r"```python\n(.*?)```", part, re.DOTALL), 1)
}
README = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(), flags=re.DOTALL)
FILES = sorted(set(re.findall(r"`((?:pgjax|tests|experiments|benchmarks|\.ci)/[^`]*)`", PROSE + README)))
NAMES = sorted(set(re.findall(r"`(pgjax\.[\w.]+)[`(]", PROSE + README)))
# A row and the file that holds it, as in "`LOSSES` of `pgjax/losses/__init__.py`".
ROWS = sorted(set(re.findall(r"`(\w+)` (?:of|in) `((?:pgjax|tests)/[^`]+\.py)`", PROSE)))


@pytest.fixture(scope="module", autouse=True)
def imported():
    envs.names()  # imports gymnax and flax, which would take most of the first skeleton's time


@pytest.mark.parametrize("name", SKELETONS)
def test_a_skeleton_runs_as_it_stands_and_is_short(name):
    code = SKELETONS[name]
    exec(compile(code, f"README.md: {name}", "exec"), {"__name__": "guide"})
    assert sum(bool(line.strip()) for line in code.splitlines()) < 20


@pytest.mark.parametrize("path", FILES)
def test_a_file_that_is_named_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_dotted_name_exists(name):
    found, parts = importlib.import_module("pgjax"), name.split(".")
    for i, part in enumerate(parts[1:], 2):
        if not hasattr(found, part):
            importlib.import_module(".".join(parts[:i]))  # a module that its package doesn't import
        found = getattr(found, part)


@pytest.mark.parametrize(("row", "path"), ROWS)
def test_a_row_of_the_guide_stands_in_its_file(row, path):
    assert re.search(rf"\b{row}\b", (ROOT / path).read_text())


def test_the_guide_is_short_and_each_part_has_a_skeleton():
    assert len(GUIDE.splitlines()) < 290
    assert len(PARTS) == 11 and {name.rpartition(",")[0] for name in SKELETONS} == set(PARTS)

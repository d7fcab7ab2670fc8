"""The guide `pgjax/README.md`: its skeletons are run, and what it names exists."""

import importlib
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
GUIDE = (ROOT / "pgjax" / "README.md").read_text()
PARTS = {part.splitlines()[0]: part for part in re.split(r"^## ", GUIDE, flags=re.MULTILINE)[1:]}
SKELETONS = {name: found[1] for name, part in PARTS.items() if (found := re.search(r"```python\n(.*?)```", part, re.S))}


@pytest.mark.parametrize("name", SKELETONS)
def test_a_skeleton_runs_as_it_stands_and_is_short(name):
    code = SKELETONS[name]
    exec(compile(code, f"README.md: {name}", "exec"), {"__name__": "guide"})
    assert sum(bool(line.strip()) and not re.match("from |import ", line) for line in code.splitlines()) < 20


def test_every_file_and_every_name_exists():
    for path in set(re.findall(r"`((?:pgjax|tests|\.ci)/[^`]*)`", GUIDE)):
        assert (ROOT / path).exists(), path
    for name in set(re.findall(r"`(pgjax\.[A-Za-z_.]+)[`(]", GUIDE)):
        module, found = name.split("."), None
        for i in range(len(module), 0, -1):
            try:
                found = importlib.import_module(".".join(module[:i]))
            except ModuleNotFoundError:
                continue
            for attribute in module[i:]:
                found = getattr(found, attribute)
            break
        assert found is not None, name


def test_the_guide_is_short():
    assert len(GUIDE.splitlines()) < 260 and len(SKELETONS) == 9

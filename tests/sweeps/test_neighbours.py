"""A file of the user's imports the files beside it, as a script does, and none of another folder's."""

import pickle
import sys

import pytest

from pgjax.sweeps import neighbours
from pgjax.sweeps.user_code import load

MINE = """
import dataclasses
import beside
from family.member import NAME

def said():
    import late
    return beside.WORD, late.WORD, NAME

@dataclasses.dataclass
class Point:
    x: "int" = 1
"""


@pytest.fixture
def folder(tmp_path):
    """A function that writes the files of a folder, each of whose words is the folder's name."""

    def write(name):
        place = tmp_path / name
        (place / "family").mkdir(parents=True)
        (place / "mine.py").write_text(MINE)
        for file in ("beside", "late"):
            (place / f"{file}.py").write_text(f"WORD = {name!r}\n")
        (place / "family" / "__init__.py").touch()
        (place / "family" / "member.py").write_text("from beside import WORD as NAME\n")
        return place

    return write


def test_two_files_of_one_name_have_their_own_neighbours_even_where_they_import_late(folder):
    a, b = (load(f"{folder(name)}/mine.py:said", "--loss") for name in "ab")
    assert a() == ("a", "a", "a") and b() == ("b", "b", "b")
    assert not {"beside", "late", "family", "mine"} & set(sys.modules)


def test_a_file_is_run_once_and_again_when_it_or_a_neighbour_has_changed(folder):
    place = folder("a")
    first = load(f"{place}/mine.py:said", "--loss")
    assert load(f"{place}/mine.py:said", "--advantage") is first
    assert load(f"{place}/beside.py:WORD", "--loss") == "a"
    (place / "beside.py").write_text("WORD = 'b'\n")  # of the same size, in the same second
    again = load(f"{place}/mine.py:said", "--loss")
    assert again() == ("b", "a", "b") and first()[0] == "a"
    assert not (place / "__pycache__").exists()


def test_what_two_files_of_a_folder_share_is_one(folder):
    place = folder("a")
    (place / "other.py").write_text("from mine import Point\n")
    assert load(f"{place}/other.py:Point", "--loss") is load(f"{place}/mine.py:Point", "--loss")


def test_objects_of_such_a_file_are_pickled(folder):
    point = load(f"{folder('a')}/mine.py:Point", "--loss")(3)
    assert pickle.loads(pickle.dumps(point)) == point
    assert neighbours.plain(type(point).__module__) == "mine" and neighbours.plain("pgjax.types") == "pgjax.types"


@pytest.mark.parametrize("name", ["random", "json", "xarray", "zarr"])
def test_a_neighbour_with_the_name_of_an_installed_package_is_refused_where_it_is_imported(tmp_path, name):
    (tmp_path / f"{name}.py").write_text("WORD = 1\n")
    (tmp_path / "mine.py").write_text(f"import {name}\nx = 1\n")
    (tmp_path / "other.py").write_text("x = 1\n")
    with pytest.raises(
        ValueError, match=f"--loss: can't import '.*': '{name}' is an installed package and '.*; rename"
    ):
        load(f"{tmp_path}/mine.py:x", "--loss")
    assert load(f"{tmp_path}/other.py:x", "--loss") == 1


def test_a_folder_on_the_path_has_its_modules_once(folder, monkeypatch):
    """As where pgjax itself lies beside the file."""
    place = folder("a")
    monkeypatch.syspath_prepend(str(place))
    said = load(f"{place}/mine.py:said", "--loss")
    assert said.__globals__["beside"] is sys.modules.pop("beside")
    for name in ("family", "family.member"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nowhere\n", "can't import '.*': No module named 'nowhere'"),
        ("import beside.below\n", "can't import '.*': No module named '.*beside.below'"),
        ("def x(:\n", "'.*' raised SyntaxError: invalid syntax"),
        ("x = 1 / 0\n", "'.*' raised ZeroDivisionError: division by zero"),
        ("raise ValueError('bad')\n", "'.*' raised ValueError: bad"),
        ("import sys\nsys.exit(3)\n", "'.*' raised SystemExit: 3"),
        ("y = 1\n", "'?.*mine.py'? has no 'x'; choose from y"),
    ],
)
def test_what_a_file_raises_is_one_line_and_it_may_be_mended(folder, text, message):
    place = folder("a")
    (place / "mine.py").write_text(text)
    with pytest.raises(ValueError, match=f"^--loss: {message}") as caught:
        load(f"{place}/mine.py:x", "--loss")
    assert "\n" not in str(caught.value)
    (place / "mine.py").write_text("x = 2\n")
    assert load(f"{place}/mine.py:x", "--loss") == 2


@pytest.mark.parametrize("name", ["mine.v2.py", "family.py"])
def test_a_name_that_cannot_be_imported(folder, name):
    place = folder("a")
    (place / name).write_text("x = 1\n")
    with pytest.raises(
        ValueError, match="its name has a dot in it, or is that of a package beside it; rename the file"
    ):
        load(f"{place}/{name}:x", "--loss")

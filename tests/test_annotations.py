"""Every function of the package that can be called from outside is annotated; the typed user's file runs."""

import ast
import inspect
import pathlib

import pytest
from typed import compose, shipped

import pgjax
from pgjax import advantages, losses

FILES = sorted(pathlib.Path(pgjax.__file__).parent.rglob("*.py"))


def functions(body):
    """Those of a module and of its classes; a function inside another is that one's own affair."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from functions(node.body)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def lacks(function):
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    found = [x.arg for x in named if x is not None and x.annotation is None and x.arg not in ("self", "cls")]
    return [*found, *([] if function.returns or function.name == "__init__" else ["return"])]


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(FILES[0].parent)) for path in FILES])
def test_functions_are_annotated(path):
    for function in functions(ast.parse(path.read_text()).body):
        assert not lacks(function), f"{path.name}: {function.name} has no annotation of {', '.join(lacks(function))}"


def test_what_a_user_composes_runs():
    assert 0 < compose.main() <= 0.6932


def test_every_plug_that_ships_is_among_those_that_the_type_checkers_see():
    assert set(shipped.LOSSES) == {*losses.LOSSES.values(), *losses.sequences.LOSSES.values()}
    assert set(shipped.ADVANTAGES) == set(advantages.ADVANTAGES.values())
    readme = (FILES[0].parent.parent / "README.md").read_text()
    assert inspect.getsource(shipped.kl_penalised) in readme

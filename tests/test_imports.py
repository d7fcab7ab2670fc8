"""The rooms of the package and who may import whom, read from the import statements themselves."""

import ast
import importlib
import pathlib
import subprocess
import sys

import pytest

import pgjax

PACKAGE = pathlib.Path(pgjax.__file__).parent

# A room, a package or a file beside them, imports only rooms above it.
ROOMS = (
    "types errors dependencies declarations hyperparameters running plugs optimizers numerics statistics analysis envs "
    "config rollout losses policies advantages estimators training oracle algorithms variance sweeps "
    "certificates testing engine executors runs settling render report cli __main__"
).split()
# In the laboratory, the loop over chunks is an edge too.
COMPILING = {
    "certificates/expectation.py",
    "certificates/objectives.py",
    "engine/programs.py",
    "testing/unbiased.py",
    "testing/plugs.py",
    "testing/worlds.py",
    "testing/learners.py",
    "variance/compare.py",
    "variance/measurement/stream.py",
}

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(tree):
    """Every module that an import statement names, wherever in the file it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that a reader sees the room"
            if node.module == "pgjax":
                yield from (f"pgjax.{alias.name}" for alias in node.names)
            else:
                yield node.module


def rooms_imported(path):
    for module in imports(ast.parse(path.read_text())):
        parts = module.split(".")
        # A dunder is an attribute of the package (its version), no room.
        if parts[0] == "pgjax" and len(parts) > 1 and not parts[1].startswith("__"):
            yield parts[1]


def mentions_jit(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("jit", "pmap"):
            return True
        if isinstance(node, ast.ImportFrom) and any(alias.name in ("jit", "pmap") for alias in node.names):
            return True
    return False


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_every_module_belongs_to_a_room(path):
    assert room_of(path) in ROOMS, f"{path.name} is in no room; list it in ROOMS, at its place in the pipeline"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_room_imports_only_rooms_above_it(path):
    room = room_of(path)
    place = ROOMS.index(room)
    wrong = {other for other in rooms_imported(path) if other != room and other not in ROOMS[:place]}
    assert not wrong, f"{room} may not import {', '.join(sorted(wrong))}: not above it in the pipeline"


def test_the_reader_of_imports_sees_every_form():
    code = "import pgjax.envs.probes\nfrom pgjax import losses, config\ndef f():\n    from pgjax.types import Env\n"
    assert list(imports(ast.parse(code))) == ["pgjax.envs.probes", "pgjax.losses", "pgjax.config", "pgjax.types"]
    assert mentions_jit(ast.parse("import functools, jax\nf = functools.partial(jax.jit, static_argnums=0)"))
    assert not mentions_jit(ast.parse("jit = 1  # jax.jit"))


def test_types_imports_jax_and_the_standard_library_alone():
    roots = {module.split(".")[0] for module in imports(ast.parse((PACKAGE / "types.py").read_text()))}
    assert roots <= {"jax", *sys.stdlib_module_names}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_only_the_edge_compiles(path):
    if str(path.relative_to(PACKAGE)) not in COMPILING:
        assert not mentions_jit(ast.parse(path.read_text())), "compiling is left to the caller: see engine/programs.py"


def test_importing_the_package_loads_none_of_the_slow_libraries():
    slow = ("gymnax", "matplotlib", "optax", "flax")
    code = f"import sys, pgjax; print([m for m in {slow} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_hides_a_function_of_the_package():
    """`pgjax.replay` would be the module from the moment that anything imports it."""
    assert not set(pgjax._DOOR) & {room_of(path) for path in FILES}


def test_the_door_shows_what_it_holds():
    assert set(pgjax.__all__) <= set(dir(pgjax)) and {room_of(path) for path in FILES} - {"__main__"} <= set(
        pgjax.__all__
    )
    assert all(getattr(pgjax, name) is not None for name in pgjax.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        getattr(pgjax, "nothing")  # noqa: B009


@pytest.mark.parametrize("first", ["sweeps.plan", "algorithms.dqn", "training.loop"])
def test_any_room_may_be_imported_first(first):
    subprocess.run([sys.executable, "-c", f"import pgjax.{first}"], check=True)


def test_a_type_checker_sees_the_same_door():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name))
    seen = {alias.asname: f"{node.module}.{alias.name}" for node in block.body for alias in node.names}
    assert set(seen) == set(pgjax.__all__)
    for name, where in seen.items():
        module, _, attribute = where.rpartition(".")
        assert getattr(pgjax, name) is getattr(importlib.import_module(module), attribute)

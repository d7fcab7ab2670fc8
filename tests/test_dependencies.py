"""Packages of other projects that are missing, lack something, or are broken: one line with the command that mends."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

import pgjax
from pgjax import dependencies, envs
from pgjax.cli.main import main
from pgjax.engine import loggers
from pgjax.executors import connect
from pgjax.policies import gpt2
from pgjax.render import frames, video
from pgjax.runs import dataset

FILES = sorted(pathlib.Path(pgjax.__file__).parent.rglob("*.py"))
BROKEN = "libodd.so.3: cannot open shared object file"
# The extra, the module that it brings, and what asks for it.
EXTRAS = {
    "tensorboard": ("tensorboardX", lambda folder: loggers.make_logger("tensorboard", folder)),
    "wandb": ("wandb", lambda folder: loggers.make_logger("wandb", folder)),
    "gymnasium": ("gymnasium", lambda folder: envs.make("gymnasium:CartPole-v1")),
    "brax": ("brax", lambda folder: envs.make("brax:ant")),
    "craftax": ("craftax", lambda folder: envs.make("craftax:Craftax-Symbolic-v1")),
    "jumanji": ("jumanji", lambda folder: envs.make("jumanji:Snake-v1")),
    "navix": ("navix", lambda folder: envs.make("navix:Navix-Empty-5x5-v0")),
    "xminigrid": ("xminigrid", lambda folder: envs.make("xminigrid:MiniGrid-Empty-5x5")),
    "pgx": ("pgx", lambda folder: envs.make("pgx:2048")),
    "playground": ("mujoco_playground", lambda folder: envs.make("playground:CartpoleBalance")),
    "envelope": ("envelope", lambda folder: envs.make("envelope:brax::ant")),
    "video": ("imageio_ffmpeg", lambda folder: video.checked_path(folder / "a.mp4")),
    "lm, tokens": ("tokenizers", lambda folder: gpt2.tokenizer(folder)),
    "lm": ("safetensors", lambda folder: gpt2._tensors(folder / "model.safetensors")),
    "loky": ("loky", lambda folder: connect("loky", 1, folder)),
    "dask": ("distributed", lambda folder: connect("dask", 1, folder)),
    "slurm": ("submitit", lambda folder: connect("slurm", 1, folder)),
    "mpi": ("mpi4py", lambda folder: connect("mpi", 1, folder)),
    "ray": ("ray", lambda folder: connect("ray", 1, folder)),
}
ALWAYS = {"gymnax": lambda: envs.make("CartPole-v1"), "xarray": lambda: dataset.load(pathlib.Path("metrics.zarr"))}


def fake(monkeypatch, folder, module, code):
    """A package of this name that runs `code` as it is imported, in place of the one that is installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    (folder / module).mkdir(parents=True)
    (folder / module / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(folder)


def said(ask):
    """The one line of the PackageError, which is an ImportError."""
    with pytest.raises(ImportError) as caught:
        ask()
    assert isinstance(caught.value, dependencies.PackageError)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_that_is_missing_lacks_something_or_is_broken(extra, tmp_path, monkeypatch):
    module, ask = EXTRAS[extra]
    extra, name = extra.partition(",")[0], dependencies.distribution(module)
    with monkeypatch.context() as missing:
        missing.setitem(sys.modules, module, None)
        assert f'the package {name} isn\'t installed; pip install -e ".[{extra}]"' in said(lambda: ask(tmp_path))
    for code, line in (
        ("import nowhere_at_all", f"{module} needs the package nowhere_at_all, which isn't installed; pip install now"),
        (f"raise ImportError({BROKEN!r})", f"{name} is installed but broken ({BROKEN}); pip install --force-reinstall"),
        ("raise OSError('no such device')", f"the package {name} is installed but broken (no such device); pip"),
        ("from json import nothing", f"{name} and json: another version is needed (cannot import name 'nothing'"),
        (f"import {module}.gone", f"{name}: another version is needed (No module named '{module}.gone'); pip install"),
    ):
        with monkeypatch.context() as broken:
            fake(broken, tmp_path / str(hash(code)), module, code)
            assert line in said(lambda: ask(tmp_path))


@pytest.mark.parametrize("module", ALWAYS)
def test_what_pgjax_always_needs_is_named_too(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    assert f"the package {module} isn't installed; pip install {module}" in said(ALWAYS[module])


def test_a_broken_drawer_of_pictures_says_what_mends_it(tmp_path, monkeypatch):
    fake(monkeypatch, tmp_path, "pygame", f"raise ImportError({BROKEN!r})")
    assert frames._pygame() == f"the package pygame-ce is installed but broken ({BROKEN}); pip install " + (
        "--force-reinstall pygame-ce"
    )


def test_the_module_that_registers_a_gymnasium_world_may_be_broken(tmp_path, monkeypatch):
    fake(monkeypatch, tmp_path, "odd_worlds", "raise RuntimeError('two\\nlines')")
    with pytest.raises(ValueError, match="gymnasium:odd_worlds:X-v0: can't import 'odd_worlds': two lines"):
        envs.make("gymnasium:odd_worlds:X-v0")


def test_a_worlds_own_import_is_named():
    def build():
        import nowhere_at_all  # noqa: F401

    line = said(lambda: envs.from_gymnasium(build, 5, "mine"))
    assert line == "mine: the package nowhere_at_all isn't installed; pip install nowhere_at_all"


def test_the_command_line_says_it_in_one_line(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "brax", None)
    assert main(["list", "brax:ant"]) == 2
    line = 'pgjax: env brax:NAME: the package brax isn\'t installed; pip install -e ".[brax]"\n'
    assert capsys.readouterr().err == line


def test_an_import_that_fails_anywhere_else_is_one_line_too(capsys, monkeypatch):
    def late(*_):
        import nowhere_at_all  # noqa: F401

    monkeypatch.setattr("pgjax.cli.listing.show_environment", late)
    assert main(["list", "CartPole-v1"]) == 2
    line = "pgjax: the package nowhere_at_all isn't installed; pip install nowhere_at_all\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("module", ["tyro", "six", "flashbax"])
def test_the_program_starts_without_a_traceback(module):
    code = f"import sys; sys.modules[{module!r}] = None; from pgjax.cli.main import main; sys.exit(main(['list']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    line = done.stderr.splitlines()
    if module == "six" and done.returncode == 0:
        return  # nothing that is installed here needs it any more
    assert done.returncode == 2 and len(line) == 1, done.stderr
    assert line[0].startswith("pgjax: ") and f"isn't installed; pip install {module}" in line[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_late_import_of_a_package_says_what_mends_it(path):
    """Those at the head of a file are the command line's business; those in functions name their package."""
    known = {"pgjax", "jax", "numpy", *sys.stdlib_module_names}

    def late(node, guarded, inside):
        for child in ast.iter_child_nodes(node):
            with_it = isinstance(child, ast.With) and "importing(" in ast.unparse(child.items[0])
            if inside and not guarded and isinstance(child, (ast.Import, ast.ImportFrom)):
                names = [x.name for x in child.names] if isinstance(child, ast.Import) else [child.module]
                yield from (name for name in names if name.partition(".")[0] not in known)
            yield from late(child, guarded or with_it, inside or isinstance(child, ast.FunctionDef))

    assert not list(late(ast.parse(path.read_text()), False, False)), "put it under `with importing(...)`"


def test_a_name_that_pgjax_lacks_names_no_command():
    """On PyPI its name is another project's."""
    error = ImportError("cannot import name 'x' from 'pgjax.losses.policy'", name="pgjax.losses.policy")
    assert (
        dependencies.explained(error, dependencies.of(error))
        == "pgjax: cannot import name 'x' from 'pgjax.losses.policy'"
    )


def test_a_module_that_is_imported_lazily_loads_when_it_is_used(tmp_path, monkeypatch):
    (tmp_path / "heavy_one.py").write_text("loaded = True\n")
    (tmp_path / "asks_for_it.py").write_text("import heavy_one as one\nimport os.path as there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with dependencies.lazily("heavy_one", "os.path"):
        import asks_for_it
    assert "heavy_one" not in sys.modules and asks_for_it.there is os.path
    assert not hasattr(asks_for_it.one, "__file__") and "loaded" not in vars(asks_for_it.one)
    assert asks_for_it.one.loaded and sys.modules["heavy_one"] is not asks_for_it.one
    with pytest.raises(AttributeError):
        getattr(asks_for_it.one, "nothing")  # noqa: B009
    with dependencies.lazily("nowhere_at_all"):
        pass
    assert "nowhere_at_all" not in sys.modules


def test_gymnax_is_imported_without_what_it_draws_with():
    code = "import sys; from pgjax import envs; envs.make('CartPole-v1'); print({'seaborn', 'pandas'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

"""Imports of other projects' packages: an error names the package and the command that mends it, in one line.

A package that pgjax or one of its extras needs may be missing, lack a package that it needs in turn, or be broken (a
library of another version, a compiled part that can't be loaded).
"""

import contextlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any

# Module -> distribution, where the names differ.
DISTRIBUTIONS = {
    "Box2D": "box2d",
    "PIL": "pillow",
    "dateutil": "python-dateutil",
    "envelope": "jax-envelope",
    "imageio_ffmpeg": "imageio-ffmpeg",
    "mujoco_playground": "playground",
    "pygame": "pygame-ce",
    "upath": "universal-pathlib",
    "yaml": "pyyaml",
}


class PackageError(ImportError, ValueError):
    """A package is missing or broken. It is a ValueError too, since an argument usually named the package."""


@contextlib.contextmanager
def importing(package: str, extra: str = "", asked: str = "") -> Iterator[None]:
    """A context for the import of `package`, which turns a failure into one line.

    Args:
      extra: the extra of pgjax that brings it; "" where pgjax always needs it.
      asked: the option that needs it, for the beginning of the line, such as "log: wandb".

    Raises:
      PackageError: where the import fails, for any reason.
    """
    try:
        yield
    except PackageError:
        raise
    except Exception as error:  # a broken library may raise anything as it starts
        begin = f"{asked}: " if asked else ""
        raise PackageError(begin + explained(error, package, extra), name=package) from error


@contextlib.contextmanager
def lazily(*modules: str) -> Iterator[None]:
    """A context for the import of a package that imports `modules` and seldom uses them: each loads at its first use.

    gymnax imports pyplot and seaborn, for drawings that pgjax never makes, and they take longer than all of gymnax's
    own code. Later imports give the modules themselves.
    """
    made = {name: _Later(name) for name in modules if name not in sys.modules}
    sys.modules.update(made)
    try:
        yield
    finally:
        for name, module in made.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


class _Later(types.ModuleType):
    """A module that is imported at the first use of one of its names."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system reads these of every module
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def explained(error: Exception, package: str, extra: str = "") -> str:
    """Why the import of `package` failed, and the command that mends it, in one line."""
    top = (getattr(error, "name", None) or package).partition(".")[0]
    if top == "pgjax":  # no command: on PyPI this name is another project's
        return f"pgjax: {' '.join(str(error).split())}"
    absent = isinstance(error, ModuleNotFoundError)
    if absent and not _installed(top):
        if top != package:
            return f"{package} needs the package {distribution(top)}, which isn't installed; {_install(top)}"
        return f"the package {distribution(package)} isn't installed; {_install(package, extra)}"
    said = " ".join(str(error).split()) or type(error).__name__
    said = said if len(said) < 200 else f"{said[:200]}..."
    both = list(dict.fromkeys(distribution(x) for x in (package, top) if _installed(x)))
    if absent or (isinstance(error, ImportError) and said.startswith("cannot import name")):
        return f"{' and '.join(both)}: another version is needed ({said}); pip install --upgrade {' '.join(both)}"
    broken = both[-1] if both else package
    return f"the package {broken} is installed but broken ({said}); pip install --force-reinstall {broken}"


def of(error: ImportError) -> str:
    """The package whose import raised the error: the one that it names, else the one whose code raised it."""
    found, trace = error.name or "", error.__traceback__
    while trace is not None and not error.name:
        module = trace.tb_frame.f_globals.get("__name__", "")
        found = found if module.partition(".")[0] in ("importlib", "pgjax", "_frozen_importlib") else module
        trace = trace.tb_next
    return found.partition(".")[0] or "a package"


def _installed(module: str) -> bool:
    if module in sys.modules:
        return sys.modules[module] is not None
    with contextlib.suppress(ImportError, ValueError):
        return importlib.util.find_spec(module) is not None
    return False


def _install(module: str, extra: str = "") -> str:
    return f'pip install -e ".[{extra}]"' if extra else f"pip install {distribution(module)}"


def distribution(module: str) -> str:
    """The name of the module's distribution, for pip."""
    return DISTRIBUTIONS.get(module, module)

"""An import of another project's package in; the package, or one line that names it and the command that mends it.

What `pgjax` itself leans on and what its extras bring may be missing, lack something that it needs in turn, or be
broken (a library of another version, a compiled part that can't be loaded).
"""

import contextlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any

# Modules whose distribution has another name.
DISTRIBUTIONS = {
    "Box2D": "box2d",
    "PIL": "pillow",
    "dateutil": "python-dateutil",
    "imageio_ffmpeg": "imageio-ffmpeg",
    "pygame": "pygame-ce",
    "yaml": "pyyaml",
}


class PackageError(ImportError, ValueError):
    """A package that is missing or broken. A ValueError too: it was asked for by an argument as a rule."""


@contextlib.contextmanager
def importing(package: str, extra: str = "", asked: str = "") -> Iterator[None]:
    """Around the import of `package`.

    Args:
      extra: the extra of pgjax that brings it; "" where pgjax always needs it.
      asked: what needs it, the beginning of the line, such as "log: wandb".

    Raises:
      PackageError: where the import fails, for whatever reason.
    """
    try:
        yield
    except PackageError:
        raise
    except Exception as error:  # what a broken library raises as it starts may be anything
        begin = f"{asked}: " if asked else ""
        raise PackageError(begin + explained(error, package, extra), name=package) from error


@contextlib.contextmanager
def lazily(*modules: str) -> Iterator[None]:
    """Around an import of a package that imports `modules` and seldom uses them: each loads when it is first used.

    gymnax imports pyplot and seaborn, for drawings that pgjax doesn't ask for, and they take longer than all its own
    code. Whoever imports them after that gets the modules themselves.
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
    """A module that is imported when something of it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system asks of every module
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
    """The package whose import raised this: the one that it names, else the one whose code raised it."""
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
    """What pip calls it."""
    return DISTRIBUTIONS.get(module, module)

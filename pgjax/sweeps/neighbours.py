"""A Python file of the user's in; its module out, which may import the files beside it as a script may.

Each folder is a package of its own, so that two files of one name in two folders are two modules. An `import` in one of
its files looks beside the file where the name is no installed package's. A name that is both is refused: a script
would hide the package from everything else.
"""

import builtins
import hashlib
import importlib
import importlib.util
import pathlib
import sys
import sysconfig
import types
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from typing import Any

PREFIX = "_folder_"
# Installed packages have versions, which config.json records.
INSTALLED = {pathlib.Path(sysconfig.get_path("stdlib")).resolve(), pathlib.Path(__file__).resolve().parents[1]}

_folders: dict[str, pathlib.Path] = {}  # package -> the folder that it stands for
_read: dict[str, bytes] = {}  # module -> the text that it was made of


def module(file: pathlib.Path) -> types.ModuleType:
    """The module of a file; it is run once, and again after it or a file beside it that was imported has changed.

    Raises:
      ImportError: for a name that can't be imported. Whatever the file raises is passed on.
    """
    file = file.resolve()
    if "." in file.stem or (file.with_suffix("") / "__init__.py").is_file():
        raise ImportError("its name has a dot in it, or is that of a package beside it; rename the file")
    package = PREFIX + hashlib.sha256(str(file.parent).encode()).hexdigest()[:12]
    if package not in _folders:
        _folders[package] = file.parent
        if _Finder not in sys.meta_path:
            sys.meta_path.insert(0, _Finder)
    mine = [name for name in sys.modules if name.startswith(f"{package}.")]
    if any(_changed(sys.modules[name]) for name in mine):
        for name in mine:
            del sys.modules[name]
    parent = sys.modules.setdefault(package, types.ModuleType(package))
    parent.__path__ = [str(file.parent)]
    return importlib.import_module(f"{package}.{file.stem}")


def plain(name: str) -> str:
    """The name of a module as its user knows it, without the package of its folder."""
    return name.partition(".")[2] if name.startswith(PREFIX) else name


def file_of(name: str) -> str | None:
    """The file of a module that `module` made, or that such a module imported from beside it; else None."""
    return getattr(sys.modules.get(name), "__file__", None) if name.startswith(PREFIX) else None


def installed(file: str) -> bool:
    """Whether a file belongs to Python, to pgjax or to an installed package."""
    parents = pathlib.Path(file).resolve().parents
    return bool(INSTALLED & set(parents)) or any(x.name in ("site-packages", "dist-packages") for x in parents)


def own(space: dict[str, Any]) -> bool:
    """Whether a module, given by its namespace, is a file of the user's, a notebook or a script."""
    file = space.get("__file__")
    if not isinstance(file, str):
        return space.get("__name__") == "__main__"
    return file.endswith(".py") and not installed(file)


def _changed(made: types.ModuleType) -> bool:
    try:
        return pathlib.Path(made.__file__ or "").read_bytes() != _read.get(made.__name__)
    except OSError:
        return True


class _Loader(SourceFileLoader):
    """Runs a file as it is now: bytecode kept for an earlier second of the same size may be of another text."""

    def get_code(self, fullname: str) -> types.CodeType:
        _read[fullname] = text = self.get_data(self.path)
        return compile(text, self.path, "exec", dont_inherit=True)

    def exec_module(self, module: types.ModuleType) -> None:
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import}
        super().exec_module(module)


class _Finder:
    """Finds the files of the folders."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if not name.startswith(PREFIX) or not path:
            return None
        return FileFinder(path[0], (_Loader, [".py"])).find_spec(name)


def _import(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    """What `import` calls in a file of such a folder."""
    package, first = (globals or {}).get("__name__", "").partition(".")[0], name.partition(".")[0]
    if level or not _beside(package, first):
        return builtins.__import__(name, globals, locals, fromlist, level)
    found = builtins.__import__(f"{package}.{name}", globals, locals, fromlist)
    return found if fromlist else sys.modules[f"{package}.{first}"]


def _beside(package: str, name: str) -> bool:
    """Whether a name is that of a file, or a package, in this folder and of nothing installed.

    Raises:
      ImportError: where it is both.
    """
    folder = _folders.get(package)
    beside = [f for f in (folder / f"{name}.py", folder / name / "__init__.py") if f.is_file()] if folder else []
    if not beside:
        return False
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # of a module that was made by hand
        spec = None
    origin = spec.origin if spec else None
    if origin and pathlib.Path(origin).resolve() == beside[0].resolve():
        return False  # the folder is on the path of this process, where the module may be known already
    if name in sys.stdlib_module_names or (origin and installed(origin)):
        raise ImportError(f"{name!r} is an installed package and {str(beside[0])!r} too; rename the file")
    return True

"""`make` builds an `Env` from the name of a gymnax environment, of one of this package, or of another suite's."""

import importlib
import inspect
from typing import Any

from pgjax.dependencies import importing, lazily
from pgjax.envs import gymnasium
from pgjax.envs.gymnax import from_gymnax
from pgjax.envs.parameters import NOTES, Static, param_names, replace_fields
from pgjax.errors import unknown
from pgjax.types import Env

# What stands before the colon of a name -> the module of that suite. Each module has from_name(name, **params) -> Env,
# settable(name) -> the name and default of what can be set, and names() -> the names that its package knows; and where
# something surprises, NOTES: how names begin, without the prefix -> one line for `pgjax list ENV`.
SUITES = {
    "gymnasium": "pgjax.envs.gymnasium",
    "brax": "pgjax.envs.brax",
    "craftax": "pgjax.envs.suites.craftax",
    "jumanji": "pgjax.envs.suites.jumanji",
    "navix": "pgjax.envs.suites.navix",
    "xminigrid": "pgjax.envs.suites.xminigrid",
    "pgx": "pgjax.envs.suites.pgx",
    "playground": "pgjax.envs.suites.playground",
    "envelope": "pgjax.envs.suites.envelope",
}


def suite(name: str) -> Any:
    """The module of the suite that `name`, "SUITE:NAME", is of; None for a name without a suite's prefix."""
    module = SUITES.get(name.partition(":")[0]) if ":" in name else None
    return importlib.import_module(module) if module else None


def names(of: str = "") -> list[str]:
    """The names that `make` takes without a prefix, gymnax's own and this package's; or those of one suite, whole.

    Raises:
      ValueError: for an unknown suite, and for one whose package isn't installed.
    """
    if not of:
        return list(_registry().registered_envs)
    if of not in SUITES:
        raise ValueError(unknown("no suite of environments", of, SUITES))
    return [f"{of}:{name}" for name in suite(f"{of}:").names()]


def make(name: str, **params: Any) -> Env:
    """The registered environment `name`, with other parameters or constructor arguments.

    Args:
      name: a name of gymnax or of this package, or "SUITE:NAME" of a suite, see SUITES and its module.

    Raises:
      ValueError: for an unknown name or parameter; it suggests the nearest known one.
    """
    if module := suite(name):
        return module.from_name(name, **params)
    registry = _registry()
    if name not in registry.registered_envs:
        others = [gymnasium.PREFIX + name] if gymnasium.known(name) else registry.registered_envs
        raise ValueError(unknown("no environment", name, others))
    accepted = _constructor(name) if params else {}
    rest = {key: value for key, value in params.items() if key not in accepted}
    try:
        world, defaults = registry.make(name, **{key: value for key, value in params.items() if key in accepted})
    except (ValueError, TypeError):
        raise
    except Exception as error:  # an assertion, a division by zero, a data set that can't be fetched
        raise ValueError(f"{name} can't be made: {type(error).__name__}: {' '.join(str(error).split())}") from error
    return from_gymnax(world, replace_fields(defaults, rest, name))


def settable(name: str) -> Static:
    """The name and default of everything that `make(name, ...)` takes."""
    if module := suite(name):
        found = module.settable(name)
        return found if isinstance(found, Static) else Static(found)
    params = param_names(make(name).params)
    built = _constructor(name)
    return Static({**built, **params}, built)


def notes(name: str) -> list[str]:
    """What surprises in an environment, a line each."""
    if module := suite(name):
        short = name.partition(":")[2]
        return [line for begin, line in getattr(module, "NOTES", {}).items() if short.startswith(begin)]
    return [NOTES[name]] if name in NOTES else []


def factory(name: str) -> Any:
    """The function or class that makes the environment `name`, one without a suite's prefix."""
    # gymnax has no public way from a name to its factory; without the private one, the class serves.
    factories = getattr(_registry(), "_registry", {})
    return factories[name] if name in factories else type(_registry().make(name)[0])


def _constructor(name: str) -> dict[str, Any]:
    """The name and default of every argument of the environment's constructor."""
    found = inspect.signature(factory(name)).parameters.values()
    return {p.name: p.default for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _registry() -> Any:
    # Imported where it is used: gymnax takes seconds, and most of the package needs none of it.
    with importing("gymnax"), lazily("matplotlib.pyplot", "seaborn"):
        import gymnax.registration

    import pgjax.envs.probes
    import pgjax.envs.puzzles
    import pgjax.envs.tabular
    import pgjax.envs.textbook  # noqa: F401  (registers this package's own environments)

    return gymnax.registration

"""`make` builds an `Env` from the name of a gymnax, Gymnasium or Brax environment, or of one of this package."""

import inspect
from typing import Any

from pgjax.dependencies import importing, lazily
from pgjax.envs import brax, gymnasium
from pgjax.envs.gymnax import from_gymnax
from pgjax.envs.parameters import Static, param_names, replace_fields
from pgjax.errors import unknown
from pgjax.types import Env


def names() -> list[str]:
    """The names that `make` takes without a prefix: gymnax's own environments and this package's."""
    return list(_registry().registered_envs)


def make(name: str, **params: Any) -> Env:
    """The registered environment `name`, with other parameters or constructor arguments.

    Args:
      name: a name of gymnax or of this package; "gymnasium:ID", see `envs.gymnasium`; "brax:NAME", see `envs.brax`.

    Raises:
      ValueError: for an unknown name or parameter; it suggests the nearest known one.
    """
    if name.startswith(gymnasium.PREFIX):
        return gymnasium.from_name(name, **params)
    if name.startswith(brax.PREFIX):
        return brax.from_name(name, **params)
    registry = _registry()
    if name not in registry.registered_envs:
        others = [gymnasium.PREFIX + name] if gymnasium.known(name) else registry.registered_envs
        raise ValueError(unknown("no environment", name, others))
    accepted = _constructor(registry, name) if params else {}
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
    if name.startswith(gymnasium.PREFIX):
        return Static(gymnasium.settable(name))
    if name.startswith(brax.PREFIX):
        return Static(brax.settable(name))
    params = param_names(make(name).params)
    built = _constructor(_registry(), name)
    return Static({**built, **params}, built)


def _constructor(registry: Any, name: str) -> dict[str, Any]:
    """The name and default of every argument of the environment's constructor."""
    # gymnax has no public way from a name to its factory; without the private one, the class serves.
    factories = getattr(registry, "_registry", {})
    factory = factories[name] if name in factories else type(registry.make(name)[0])
    found = inspect.signature(factory).parameters.values()
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

"""What the user gave as an environment in; an Env of pure functions out, or one clear line."""

import inspect
from typing import Any

from pgjax import envs, hyperparameters
from pgjax.envs.gymnax import check_shapes
from pgjax.envs.parameters import replace_fields
from pgjax.errors import named
from pgjax.types import Env


def made(env: Any, static: dict[str, Any]) -> Env:
    """The Env that a name, an Env, a gymnax environment, or a function or class that makes one, stands for.

    Args:
      static: name -> value of its parameters.

    Raises:
      TypeError: for anything else, and for a function that asks for arguments.
      ValueError: for an environment whose spaces or shapes are wrong, or that has no such parameter.
    """
    if isinstance(env, str):
        return envs.make(env, **static)
    found = env
    # A class is a function that makes an environment, though it has the environment's own names.
    if isinstance(env, type) or not (isinstance(env, Env) or hasattr(env, "step_env")):
        found = _called(env)
    if hasattr(found, "step_env"):
        return envs.from_gymnax(found, replace_fields(found.default_params, static, "the environment"))
    if not isinstance(found, Env):
        raise TypeError(
            f"env {hyperparameters.name_of(env)!r} returned {type(found).__name__}; expected a pgjax Env or a "
            f"gymnax one{_hint(found)}"
        )
    with named("the environment"):
        check_shapes(found)
    limit = static.get("max_steps_in_episode", found.max_steps)
    return found._replace(params=replace_fields(found.params, static, "the environment"), max_steps=int(limit))


def _called(factory: Any) -> Any:
    """What the user's function, or class, makes."""
    if not callable(factory):
        raise TypeError(
            f"env must be a name, an Env, a gymnax environment or a function that makes one, got {factory!r}"
            f"{_hint(factory)}"
        )
    try:
        inspect.signature(factory).bind()
    except ValueError:  # of a function written in C, nothing is known
        pass
    except TypeError as error:
        name = hyperparameters.name_of(factory)
        line = f"env {name!r} must be a function without arguments: {error}; give lambda: {name}(...)"
        raise TypeError(line) from None
    with named(f"env {hyperparameters.name_of(factory)!r}"):
        return factory()


def _hint(thing: Any) -> str:
    """What to do with an object that is nearly an environment."""
    if isinstance(thing, tuple):
        return "; gymnax.make gives a pair: return pgjax.envs.from_gymnax(env, params)"
    roots = {base.__module__.partition(".")[0] for base in type(thing).__mro__}
    known = {"gymnasium": "envs.from_gymnasium(build, max_steps)", "brax": "envs.brax.from_brax(env)"}
    return "".join(f"; return pgjax.{how}" for package, how in known.items() if package in roots)

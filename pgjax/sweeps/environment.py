"""What the user gave as an environment in; an Env of pure functions out, or one clear line."""

import inspect
from typing import Any

from pgjax import envs, hyperparameters
from pgjax.envs.gymnax import check_shapes
from pgjax.envs.parameters import replace_fields
from pgjax.errors import named
from pgjax.types import Env


def made(env: Any, static: dict[str, Any]) -> Env:
    """The world that a name, an Env, a gymnax environment, or a function or class that makes one, stands for.

    Args:
      static: name -> value of its parameters.

    Raises:
      TypeError: for anything else, and for a function that asks for arguments.
      ValueError: for a world whose spaces or shapes are wrong, or that has no such parameter.
    """
    if isinstance(env, str):
        return envs.make(env, **static)
    world = env
    # A class is a function that makes a world, though it has the world's own names.
    if isinstance(env, type) or not (isinstance(env, Env) or hasattr(env, "step_env")):
        world = _called(env)
    if hasattr(world, "step_env"):
        return envs.from_gymnax(world, replace_fields(world.default_params, static, "the environment"))
    if not isinstance(world, Env):
        raise TypeError(
            f"env {hyperparameters.name_of(env)!r} returned {type(world).__name__}; expected a pgjax Env or a "
            f"gymnax one{_hint(world)}"
        )
    with named("the environment"):
        check_shapes(world)
    limit = static.get("max_steps_in_episode", world.max_steps)
    return world._replace(params=replace_fields(world.params, static, "the environment"), max_steps=int(limit))


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
    """What to do with a thing that is nearly a world."""
    if isinstance(thing, tuple):
        return "; gymnax.make gives a pair: return pgjax.envs.from_gymnax(world, params)"
    roots = {base.__module__.partition(".")[0] for base in type(thing).__mro__}
    known = {"gymnasium": "envs.from_gymnasium(build, max_steps)", "brax": "envs.brax.from_brax(world)"}
    return "".join(f"; return pgjax.{how}" for package, how in known.items() if package in roots)

"""Makes the content of config.json: all that is needed to run a plan again."""

import functools
import platform
import sys
from typing import Any

import jax

from pgjax.engine.machine import versions
from pgjax.envs.parameters import param_names
from pgjax.hyperparameters import hyperparameters, name_of, plugs
from pgjax.runs import sources
from pgjax.sweeps import neighbours
from pgjax.sweeps.plan import Plan
from pgjax.sweeps.user_code import OBJECTS, anchor

# Before 2 the parameters of a Gaussian policy were not in the units of its Box: see `distributions.units`.
FORMAT = 2


def config(
    chosen: Plan,
    algorithm: Any,
    env: Any,
    command: Any,
    specs: dict[str, str | None],
    options: dict[str, Any],
    execution: dict[str, Any],
) -> dict[str, Any]:
    """The content of config.json, with each of the user's functions by name and place."""
    known = {"algorithm": algorithm, "env": env, **options}
    given = {name: known[name] for name in OBJECTS if known.get(name) is not None}
    objects = {name: entry(thing, anchor(specs.get(name)) or spec(thing)) for name, thing in given.items()}
    shown = {name: thing if isinstance(thing, str) else origin(thing) for name, thing in given.items()}
    if not isinstance(algorithm, str):
        named = (specs.get("algorithm") or "").rpartition(":")[2]
        shown["algorithm"] = named or name_of(chosen.groups[0].algorithm.estimator)
    return {
        "format": FORMAT,
        **shown,
        "objects": objects,
        "seeds": chosen.seeds,
        "settings": options.get("settings") or {},
        **chosen.chosen,
        "execution": execution,
        "command": command,
        "groups": [
            {
                "config": vars(group.config),
                "settings": group.settings,
                "plugs": {
                    part: {"name": name_of(plug), "defaults": hyperparameters(plug)}
                    for part, plug in plugs(group.algorithm).items()
                },
                "env": param_names(group.env.params),
                "hypers": [h._asdict() for h in group.hypers],
                "updates": group.updates,
                "env_steps_at_most": group.updates * group.steps_per_update,
            }
            for group in chosen.groups
        ],
        **machine(),
    }


def entry(thing: Any, spec: str | None) -> dict[str, Any]:
    """What config.json says of one of the user's objects: its name, or where it stands and digests of its sources."""
    return {"name": thing} if isinstance(thing, str) else {"spec": spec, "sources": sources.digests(thing, spec)}


def copies(config: dict[str, Any], objects: dict[str, Any]) -> dict[str, bytes]:
    """Name -> text of the user's source files, which the run folder keeps as they were when the run was begun."""
    return sources.copies((objects[name], entry.get("spec")) for name, entry in config["objects"].items())


def machine() -> dict[str, Any]:
    """The versions of the packages and the device, which a rerun must match to be bit-identical."""
    device = jax.devices()[0]
    return {
        "versions": versions(),
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "machine": {"system": platform.system(), "processor": platform.machine()},
    }


def origin(thing: Any) -> str:
    """Name, module and file of a plug or a factory of the user's."""
    import inspect

    while isinstance(thing, functools.partial):
        thing = thing.func
    try:
        return f"{neighbours.plain(thing.__module__)}:{name_of(thing)} ({inspect.getsourcefile(thing)})"
    except (AttributeError, TypeError):
        return name_of(thing)


def spec(thing: Any) -> str | None:
    """The `module:name` or `file.py:name` by which another process can import a function, or None if it can't."""
    module: Any = getattr(thing, "__module__", None)
    name = getattr(thing, "__qualname__", "")
    found = getattr(sys.modules.get(module), name, None) is thing
    # A function of a script can be imported only by running the script, which would train again.
    return f"{neighbours.file_of(module) or module}:{name}" if found and module != "__main__" else None

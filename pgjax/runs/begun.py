"""Finds a run that was begun in a folder, and in what another one differs from it."""

import pathlib
from typing import Any

from pgjax.engine import files
from pgjax.runs import folder, rebuild
from pgjax.sweeps.user_code import OBJECTS

# What a run's numbers don't depend on: whoever carries it out may choose these anew.
FREE = ("devices", "checkpoint", "log", "log_lanes")
COMPARED = ("format", "algorithm", "env", "seeds", "fixed", "axes", "points", "execution", "groups")


def there(path: pathlib.Path) -> bool:
    """Whether a run was begun in the folder; ValueError where that can't be seen."""
    try:
        return files.exists(path / "config.json")
    except OSError as error:
        raise ValueError(f"out: can't read folder {str(path)!r}: {files.reason(path, error)}") from error


def same(path: pathlib.Path, config: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The config of the run in the folder, which must be the run that `config` describes.

    Args:
      given: the algorithm, env, policy and plugs of the new run, as they were given.

    Raises:
      ValueError: where it is another run, with the first difference.
    """
    recorded = folder.read_json(path / "config.json", COMPARED)
    if found := difference(recorded, config):
        raise ValueError(f"out: folder {str(path)!r} holds another run: {found}; choose another folder, or remove it")
    if change := rebuild.edited(recorded, {name: given.get(name) for name in OBJECTS}):
        raise ValueError(f"out: {change}; put it back as it was, or go on by pgjax resume {path} --edited")
    return recorded


def difference(recorded: dict[str, Any], config: dict[str, Any]) -> str | None:
    """The first difference between what two configs plan, in words."""
    for name in COMPARED:
        before, now = recorded[name], config[name]
        if name == "execution":
            devices = before.get("shard") == now.get("shard") == "envs"
            before, now = ({k: v for k, v in x.items() if k not in FREE[devices:]} for x in (before, now))
        if found := _difference(name, before, now):
            return found
    return None


def _difference(name: str, before: Any, now: Any) -> str | None:
    if isinstance(before, dict) and isinstance(now, dict):
        pairs = [(key, before.get(key), now.get(key)) for key in {**before, **now}]
    elif all(isinstance(x, list) and x and isinstance(x[0], dict) for x in (before, now)) and len(before) == len(now):
        pairs = [(f"{name}[{i}]", *pair) for i, pair in enumerate(zip(before, now, strict=True))]
    else:
        return None if before == now else f"{name} is {_short(before)} there and {_short(now)} here"
    found = (_difference(key if name in COMPARED or "[" in key else f"{name}.{key}", b, n) for key, b, n in pairs)
    return next((text for text in found if text), None)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:60]}..."

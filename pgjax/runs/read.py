"""Paths in; runs as they were written, or one clear line, out."""

import json
import pathlib
import shlex
from typing import Any, NamedTuple

from pgjax import analysis
from pgjax.dependencies import PackageError
from pgjax.errors import unknown
from pgjax.runs import dataset
from pgjax.sweeps.values import place

NEEDED = ("algorithm", "env", "seeds", "groups", "versions", "device")


class Run(NamedTuple):
    """A run folder as read."""

    name: str  # of the folder; its whole path where two have the same
    path: pathlib.Path
    config: dict[str, Any]
    summary: dict[str, Any]
    metrics: Any
    rows: list[analysis.Row]

    @property
    def title(self) -> str:
        return f"{self.config['algorithm']} on {self.config['env']}"

    @property
    def world(self) -> tuple:
        """What makes returns of two runs comparable: the environment and what was set of it for the whole run."""
        fixed = self.config.get("fixed", {})
        return self.config["env"], tuple(sorted((k, str(v)) for k, v in fixed.items() if k.startswith("env.")))

    @property
    def call(self) -> str:
        """What was typed, or how `pgjax.run` was called."""
        config = self.config
        if config.get("command"):
            more = (["pgjax", "extend", str(self.path), *_words(x)] for x in self.summary.get("extended", []))
            return " && ".join(shlex.join(words) for words in (config["command"], *more))
        seeds, updates = config["seeds"], {group["updates"] for group in config["groups"]}
        said = {"seeds": seeds}
        if seeds == list(range(seeds[0], seeds[0] + len(seeds))):
            said = {"seeds": len(seeds)} | ({"seed": seeds[0]} if seeds[0] else {})
        said |= {"updates": updates.pop()} if len(updates) == 1 else {}
        said |= {"settings": config["settings"]} if config.get("settings") else {}
        said |= {name: config[name] for name in ("loss", "policy") if name in config}
        words = [repr(config["algorithm"]), repr(config["env"]), *(f"{k}={v!r}" for k, v in said.items())]
        return f"pgjax.run({', '.join(words)})"


def read(folders: list[str | pathlib.Path]) -> list[Run]:
    """Read every folder, in the order given. Raises ValueError: see `report.write`."""
    if not folders:
        raise ValueError("folders: none was given; give one run folder or more")
    paths = [place("folders", folder) for folder in folders]
    for i, path in enumerate(paths):
        if path.resolve() in (other.resolve() for other in paths[:i]):
            raise ValueError(f"folders: {str(path)!r} was given twice; give each run once")
    names = [path.resolve().name for path in paths]
    names = [str(path) if names.count(name) > 1 else name for path, name in zip(paths, names, strict=True)]
    return [_read(path, name) for path, name in zip(paths, names, strict=True)]


def _read(path: pathlib.Path, name: str) -> Run:
    if not path.is_dir():
        others = [str(file.parent) for file in path.parent.glob("*/config.json")]
        raise ValueError(unknown("folders: no folder", str(path), others))
    config, summary = (_json(path, file) for file in ("config.json", "summary.json"))
    lacks = [key for key in NEEDED if key not in config]
    if lacks:
        raise ValueError(f"folders: {str(path / 'config.json')!r} has no {lacks[0]!r}; give a folder of pgjax train")
    metrics = _metrics(path)
    return Run(name, path, config, summary, metrics, analysis.rows(metrics))


def _words(extension: dict[str, Any]) -> list[str]:
    return [word for name, x in extension.items() for word in (f"--{name}", str(x))]


def _json(path: pathlib.Path, file: str) -> dict[str, Any]:
    try:
        value = json.loads((path / file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(_lacks(path, file)) from None
    except (OSError, ValueError) as error:
        raise ValueError(
            f"folders: {str(path / file)!r} can't be read: {error}; pgjax resume writes it anew"
        ) from error
    if not isinstance(value, dict):
        raise ValueError(f"folders: {str(path / file)!r} holds no JSON object; run it again")
    return value


def _metrics(path: pathlib.Path) -> Any:
    if not (path / "metrics.zarr").is_dir():
        raise ValueError(_lacks(path, "metrics.zarr"))
    try:
        metrics = dataset.load(path / "metrics.zarr")
    except PackageError:
        raise
    except Exception as error:  # whatever a torn file makes zarr and its codecs raise
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"folders: {str(path / 'metrics.zarr')!r} can't be read: {reason}; pgjax resume writes it anew"
        ) from error
    if "finite" not in metrics or "seed" not in metrics.dims:
        raise ValueError(f"folders: {str(path / 'metrics.zarr')!r} holds no metrics of lanes; run it again")
    return metrics


def _lacks(path: pathlib.Path, file: str) -> str:
    content = ", ".join(sorted(entry.name for entry in path.iterdir())) or "nothing"
    killed = (
        f"; the run was killed: pgjax resume {path} goes on"
        if (path / "config.json").exists()
        else "; give a run folder"
    )
    return f"folders: {str(path)!r} holds no {file}, only {content}{killed}"

"""What `settle` is asked: two arms and how they are judged, checked before anything is written."""

import math
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple

from pgjax.engine import files
from pgjax.envs import registry
from pgjax.envs.return_bounds import return_bounds
from pgjax.errors import digits
from pgjax.hyperparameters import name_of
from pgjax.runs import begun, folder
from pgjax.runs.execute import Job
from pgjax.runs.start import new_job
from pgjax.sweeps import user_code
from pgjax.sweeps.values import place, whole

FILE = "settle.json"
# The question; `most` and the command may be others when the same question is asked again.
COMPARED = ("format", "env", "by", "margin", "error", "bounds", "batch", "a", "b")
STATISTICS = ("mean", "iqm")


class Question(NamedTuple):
    """A question that was checked."""

    path: pathlib.Path  # the folder, with the runs in a and b
    record: dict[str, Any]  # the content of settle.json
    arms: tuple[dict[str, Any], ...]  # the arguments of `new_job` for either run

    def objects(self, arm: int) -> dict[str, Any]:
        """The arm's algorithm, env, policy and plugs that were given as objects, by which its run is read back."""
        given = self.arms[arm]
        return {n: given[n] for n in user_code.OBJECTS if given.get(n) is not None and not isinstance(given[n], str)}


def asked(
    a: Any,
    b: Any,
    env: Any,
    *,
    out: str | pathlib.Path,
    margin: Any = None,
    error: Any = 0.05,
    most: Any = 512,
    by: str = "mean",
    bounds: Any = None,
    batch: Any = 8,
    seed: int = 0,
    steps: Any = None,
    updates: Any = None,
    settings: dict[str, Any] | None = None,
    command: Sequence[str] | None = None,
) -> Question:
    """Check a question, and that the folder, if it holds one, holds this one; nothing is written. See `settle`."""
    if by not in STATISTICS:
        raise ValueError(f"by must be one of {', '.join(STATISTICS)}; got {by!r}")
    error, margin = _number("error", error), None if margin is None else _number("margin", margin)
    if not 0 < error < 1:
        raise ValueError(f"error must lie between 0 and 1, got {error:g}; .05 is usual")
    if margin is not None and margin <= 0:
        raise ValueError(f"margin must be more than 0, got {margin:g}; leave it out to ask for a difference alone")
    most = whole("most", most, least=2)
    batch = whole("batch", batch)
    place_of = {"env": env} if isinstance(env, str) and ":" in env and registry.suite(env) is None else {}
    env = user_code.loaded(place_of, {"env": "env"}).get("env", env)
    common = {"env": env, "seed": seed, "steps": steps, "updates": updates, "seeds": min(batch, most)}
    (words, one), (others, two) = (_arm(name, given, settings or {}) for name, given in (("A", a), ("B", b)))
    arms = tuple({**arm, **common, "specs": {**arm["specs"], **place_of}} for arm in (one, two))
    jobs = [new_job(**arm) for arm in arms]
    if not begun.difference(jobs[0].config, jobs[1].config) and _plugs(jobs[0]) == _plugs(jobs[1]):
        raise ValueError(f"A and B are the same: {words!r} and {others!r} on the same seeds; change one of them")
    path = place("out", out)
    record = {
        "format": 1,
        "a": words,
        "b": others,
        "env": jobs[0].config["env"],
        "by": by,
        "margin": margin,
        "error": error,
        "bounds": _bounds(bounds, jobs),
        "batch": batch,
        "most": most,
        "command": command,
    }
    record = folder.plain(record)
    if there(path):
        _same(path, read(path), record)
    elif files.exists(path) and files.names(path):
        raise ValueError(f"out: folder {str(path)!r} exists and holds no {FILE}; choose another or remove it")
    return Question(path, record, arms)


def there(path: pathlib.Path) -> bool:
    """Whether a folder holds a question."""
    return files.exists(path / FILE)


def read(path: pathlib.Path) -> dict[str, Any]:
    """The question of a folder; ValueError where it can't be read."""
    return folder.read_json(path / FILE, (*COMPARED, "most", "command"))


def _arm(name: str, given: Any, shared: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """An arm in words, and the arguments of `new_job` that are its own."""
    if isinstance(given, str):
        words = shlex.split(given) or [""]
        chosen = {"algorithm": words[0]}
        for word in words[1:]:
            key, equals, text = word.partition("=")
            if not equals or not key or not text:
                raise ValueError(f"{name}: after the algorithm come name=value, got {word!r} in {given!r}")
            if key in chosen:
                raise ValueError(f"{name}: {key} was given twice in {given!r}")
            chosen[key] = text
        specs = {n: chosen[n] for n in user_code.OBJECTS if n in chosen}
        loaded = user_code.loaded(specs, {n: f"{name}: {n}" for n in specs})
    else:
        algorithm, chosen = given if isinstance(given, tuple) and len(given) == 2 else (given, {})
        chosen, specs, loaded = {"algorithm": algorithm, **chosen}, {}, {}
        said = [x if isinstance(x, str) else name_of(x) for x in (algorithm, *chosen.values())][1:]
        given = " ".join([said[0], *(f"{key}={x}" for key, x in zip(list(chosen)[1:], said[1:], strict=True))])
    own = {key: x for key, x in chosen.items() if key not in user_code.OBJECTS}
    for key in own:
        if key in shared:
            raise ValueError(f"{name}: {key} was given for both arms too; give it once")
    for key, value in {**shared, **own}.items():
        if isinstance(value, list) or (isinstance(value, str) and "," in value):
            raise ValueError(f"{name}: {key} has several values, {value}; an arm is one setting")
    objects = {n: x for n, x in chosen.items() if n in user_code.OBJECTS}
    settings = {"settings": {**shared, **own}, "specs": {n: specs[n] for n in loaded}}
    return given, {**objects, **loaded, **settings}


def _plugs(job: Job) -> Any:
    return {name: x for name, x in job.config["objects"].items() if name != "env"}


def _number(name: str, value: Any) -> float:
    try:
        number = float(digits(name, value))
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number, got {value!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return number


def _bounds(given: Any, jobs: Sequence[Job]) -> tuple[float, float] | None:
    """The bounds of a return: those given, or those of the environment; None where they are not known or not wanted."""
    if given == "none":
        return None
    if given is not None:
        ends = given.split(",") if isinstance(given, str) else list(given)
        if len(ends) != 2:
            raise ValueError(f"bounds must be two numbers, LO,HI, got {given!r}")
        low, high = (_number("bounds", end) for end in ends)
        if low >= high:
            raise ValueError(f"bounds must be two numbers, the lower first, got {low:g},{high:g}")
        return low, high
    found = [return_bounds(job.config["env"], group.env) for job in jobs for group in job.plan.groups]
    if None in found:
        return None
    return min(x[0] for x in found if x), max(x[1] for x in found if x)


def _same(path: pathlib.Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """ValueError where a folder holds another question; a run that was begun is compared by `begun.same`."""
    for name in COMPARED:
        if name in ("a", "b") and begun.there(path / name):
            continue
        if before[name] != now[name]:
            raise ValueError(
                f"out: folder {str(path)!r} holds another question: {name} is {before[name]!r} there and {now[name]!r} "
                "here; choose another folder, or remove it"
            )

"""The gallery as a table: how each row is loaded, trained and shown as a command.

A method is a file of this folder with one public name, that of the file: a plug for a row of the roster, or an
algorithm of its own.
"""

import functools
import pathlib
from typing import Any

import pgjax
from experiments.methods.rows import METHODS
from pgjax.sweeps import user_code

HERE = pathlib.Path(__file__).parent


@functools.cache
def load(name: str) -> Any:
    """What the method's file defines: a plug, or an Entry of an algorithm."""
    return user_code.load(f"{HERE / name}.py:{name}", name)


def train(name: str, **options: Any) -> Any:
    """Two updates of a tiny network on a tiny environment, for both values of what is swept: a Run."""
    method = METHODS[name]
    sizes = {"num_envs": 4, "eval_episodes": 2} | ({} if method.of_groups else {"num_steps": 8, "hidden": (8,)})
    settings = sizes | method.settings | method.smoke | method.sweep
    given = {"algorithm": method.base, method.plug: load(name)}  # an algorithm takes the base's place
    return pgjax.run(env=method.tiny, updates=2, settings=settings, progress=False, **given, **options)


def command(name: str) -> str:
    """The command that trains a method, as its file shows it."""
    method, file = METHODS[name], f"experiments/methods/{name}.py:{name}"
    start = (
        f"{file} {method.env}" if method.plug == "algorithm" else f"{method.base} {method.env} --{method.plug} {file}"
    )
    values = {k: ",".join(map(str, v)) for k, v in method.sweep.items()}
    return f"pgjax train {start} --set {' '.join(f'{k}={v}' for k, v in (method.settings | values).items())}"

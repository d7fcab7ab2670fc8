"""pgjax: a functional research framework for policy gradients in JAX.

Start with `pgjax.run("ppo", "CartPole-v1", seeds=32)`; the pieces are in the modules, from
`pgjax.types` (the values that flow) to `pgjax.driver` (the edge).
"""

import importlib

__version__ = "0.1.0"

_EDGE = {"run": "driver", "resume": "resuming", "extend": "resuming", "replay": "resuming"}


def __getattr__(name: str):
    # Lazy: whoever imports one module shouldn't wait for plots, checkpoints and environments.
    if name in _EDGE:
        return getattr(importlib.import_module(f"pgjax.{_EDGE[name]}"), name)
    try:
        return importlib.import_module(f"pgjax.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"pgjax.{name}":
            raise
        raise AttributeError(f"module 'pgjax' has no attribute {name!r}") from None

"""pgjax: a functional research framework for policy gradients in JAX.

Start with `pgjax.run("ppo", "CartPole-v1", seeds=32)`; the pieces are in the packages, from `pgjax.types` (the values
that flow) to `pgjax.runs` (runs that are started, resumed and read back).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgjax import advantages as advantages
    from pgjax import algorithms as algorithms
    from pgjax import analysis as analysis
    from pgjax import certificates as certificates
    from pgjax import cli as cli
    from pgjax import config as config
    from pgjax import declarations as declarations
    from pgjax import dependencies as dependencies
    from pgjax import engine as engine
    from pgjax import envs as envs
    from pgjax import errors as errors
    from pgjax import estimators as estimators
    from pgjax import executors as executors
    from pgjax import hyperparameters as hyperparameters
    from pgjax import losses as losses
    from pgjax import numerics as numerics
    from pgjax import optimizers as optimizers
    from pgjax import oracle as oracle
    from pgjax import plugs as plugs
    from pgjax import policies as policies
    from pgjax import render as render
    from pgjax import report as report
    from pgjax import rollout as rollout
    from pgjax import running as running
    from pgjax import runs as runs
    from pgjax import settling as settling
    from pgjax import statistics as statistics
    from pgjax import sweeps as sweeps
    from pgjax import testing as testing
    from pgjax import training as training
    from pgjax import types as types
    from pgjax import variance as variance
    from pgjax.certificates.certifying import certify as certify
    from pgjax.config import Config as Config
    from pgjax.declarations import Role as Role
    from pgjax.hyperparameters import Range as Range
    from pgjax.hyperparameters import bind as bind
    from pgjax.hyperparameters import declare as declare
    from pgjax.runs.load import load as load
    from pgjax.runs.resume import extend as extend
    from pgjax.runs.resume import replay as replay
    from pgjax.runs.resume import resume as resume
    from pgjax.runs.run import Run as Run
    from pgjax.runs.start import run as run
    from pgjax.runs.worker import work as work
    from pgjax.settling.rounds import settle as settle
    from pgjax.settling.settlement import Settlement as Settlement
    from pgjax.types import Algorithm as Algorithm
    from pgjax.types import Batch as Batch
    from pgjax.types import Env as Env
    from pgjax.types import Evaluation as Evaluation
    from pgjax.types import Learner as Learner
    from pgjax.types import Policy as Policy
    from pgjax.types import Running as Running
    from pgjax.types import Step as Step
    from pgjax.types import Trajectory as Trajectory
    from pgjax.types import Variables as Variables

__version__ = "0.2.0"

_DOOR = {
    "run": "runs.start",
    "resume": "runs.resume",
    "extend": "runs.resume",
    "replay": "runs.resume",
    "work": "runs.worker",
    "load": "runs.load",
    "certify": "certificates.certifying",
    "Run": "runs.run",
    "settle": "settling.rounds",
    "Settlement": "settling.settlement",
    "Role": "declarations",
    **dict.fromkeys(("Range", "bind", "declare"), "hyperparameters"),
    "Config": "config",
    **dict.fromkeys(("Algorithm", "Batch", "Env", "Evaluation", "Learner", "Policy"), "types"),
    **dict.fromkeys(("Running", "Step", "Trajectory", "Variables"), "types"),
}
_PACKAGES = (
    "advantages algorithms analysis certificates cli config declarations dependencies engine envs errors "
    "estimators executors hyperparameters losses numerics optimizers oracle plugs policies render report rollout "
    "running runs settling statistics sweeps testing training types variance"
).split()
__all__ = [*_DOOR, *_PACKAGES]


if not TYPE_CHECKING:  # which would take every name for one that is found here

    def __getattr__(name: str) -> Any:
        # Lazy: whoever imports one module shouldn't wait for plots, checkpoints and environments.
        if name in _DOOR:
            return getattr(importlib.import_module(f"pgjax.{_DOOR[name]}"), name)
        if name in _PACKAGES:
            return importlib.import_module(f"pgjax.{name}")
        raise AttributeError(f"module 'pgjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

"""What both workers of peers.py share: the hyperparameters, the command line, and the protocol.

A worker compiles its programs, runs each once, and prints a JSON line that says what it is. From then
on each line `go NAME` on its input runs that program once and is answered by one JSON line.
"""

import argparse
import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import jax

ENV = "CartPole-v1"
NUM_STEPS = 128
NUM_EPOCHS = 4
NUM_MINIBATCHES = 4
HIDDEN = (64, 64)
ACTIVATION = "tanh"
LEARNING_RATE = 2.5e-4
ADAM_EPS = 1e-8
MAX_GRAD_NORM = 0.5
DISCOUNT = 0.99
GAE_LAMBDA = 0.95
CLIP_EPS = 0.2  # of the probability ratio, and of the value too
VALUE_COEF = 0.5
ENTROPY_COEF = 0.01


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lanes", type=int, required=True, help="independent trainings in one program")
    parser.add_argument("--envs", type=int, required=True, help="environments of each lane")
    parser.add_argument("--updates", type=int, required=True, help="rollouts, and updates from them, of one training")
    parser.add_argument("--collections", type=int, required=True, help="rollouts of one run of the rollout programs")
    return parser.parse_args()


def compiled(function: Callable, *args: Any, donate: tuple[int, ...] = ()) -> Callable:
    return jax.jit(function, donate_argnums=donate).lower(*args).compile()


def serve(programs: dict[str, Callable[[int], dict]], packages: tuple[str, ...], compile_seconds: dict) -> None:
    """Answer until the input ends.

    Args:
      programs: name -> function of the number of the run. It returns when its arrays are ready, with
        counts that the parent compares between the two sides.
      packages: whose versions to report.
    """
    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever a library prints must not come between the answers

    def answer(value: dict) -> None:
        print(json.dumps(value), file=answers, flush=True)

    for program in programs.values():
        program(0)  # the first run of a program pays for memory that later ones find ready
    versions = {name: importlib.metadata.version(name) for name in packages}
    device = jax.devices()[0]
    answer(
        {
            "versions": {"python": platform.python_version(), **versions},
            "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
            "compile_seconds": compile_seconds,
        }
    )
    for number, line in enumerate(sys.stdin, start=1):
        program = programs[line.split()[1]]
        cpu_began, began = time.process_time(), time.perf_counter()
        counts = program(number)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
        answer({"seconds": seconds, "cpu_seconds": cpu_seconds, **{k: int(v) for k, v in counts.items()}})

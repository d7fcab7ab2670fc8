"""What the workers of peers.py share: the hyperparameters, the command line, and the protocol.

A worker compiles its programs, runs each once, and prints a JSON line that says what it is. From then
on each line `go NAME` on its input runs that program once and is answered by one JSON line.
Standard library alone: it is imported in the environment of each peer.
"""

import argparse
import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

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

# REINFORCE against the tutorial loop. Nothing is learned, so that both sides play episodes of one length:
# of a uniform policy (22 steps), and of one that balances to the time limit (500): action 1 where
# BALANCING @ observation > 0.
FROZEN_LEARNING_RATE = 0.0
BALANCING = (0.1, 0.3, 1.0, 1.0)
SHARPNESS = 20.0  # of the weights that make such a policy

SIZES = {
    "lanes": "independent trainings in one program",
    "envs": "environments of each lane; with whole episodes, episodes of each update of a lane",
    "updates": "rollouts, and updates from them, of one training",
    "collections": "rollouts of one run of the rollout programs; 0 for no such programs",
    "returns": "episodes of an evaluation after one training that isn't timed; 0 for timed runs",
    "steps": "environment steps of one run, at least: the last episode is played to its end",
}


def arguments(*sizes: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in sizes:
        parser.add_argument(f"--{name}", type=int, required=True, help=SIZES[name])
    return parser.parse_args()


def serve(
    programs: dict[str, Callable[[int], dict]],
    packages: tuple[str, ...],
    device: dict[str, Any],
    compile_seconds: dict[str, float],
    warm: bool = True,
) -> None:
    """Answer until the input ends.

    Args:
      programs: name -> function of the number of the run. It returns when its arrays are ready, with
        counts that the parent compares between the two sides.
      packages: whose versions to report.
      warm: run each program once before the first answer.
    """
    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever a library prints must not come between the answers

    def answer(value: dict) -> None:
        print(json.dumps(value), file=answers, flush=True)

    for program in programs.values() if warm else ():
        program(0)  # the first run of a program pays for memory that later ones find ready
    versions = {name: importlib.metadata.version(name) for name in packages}
    answer(
        {
            "versions": {"python": platform.python_version(), **versions},
            "device": device,
            "compile_seconds": compile_seconds,
        }
    )
    for number, line in enumerate(sys.stdin, start=1):
        program = programs[line.split()[1]]
        cpu_began, began = time.process_time(), time.perf_counter()
        counts = program(number)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
        plain = {name: x.tolist() if hasattr(x, "tolist") else x for name, x in counts.items()}
        answer({"seconds": seconds, "cpu_seconds": cpu_seconds, **plain})

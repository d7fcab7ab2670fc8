"""What is each trick worth? PPO and REINFORCE on CartPole-v1 with a trick undone, and as shipped, in turn.

    python benchmarks/tricks.py               # about ten minutes on two cores
    python benchmarks/tricks.py --repeats 2   # a quick look

Writes results/tricks.json. results/tricks.md says what was predicted, and what was decided.
"""

import argparse
import contextlib
import importlib
import os
import time
import warnings
from unittest import mock

import jax
import jax.numpy as jnp
from common import RESULTS, commit, cpu, spread, write_json

from pgjax import rollout
from pgjax.algorithms import minibatches
from pgjax.estimators import pieces
from pgjax.policies import has_memory
from pgjax.sweeps import plan
from pgjax.training import vectorised

surrogate = importlib.import_module("pgjax.estimators.surrogate")  # whose package has a function of that name
SIZES = {"num_steps": 128, "num_epochs": 4, "num_minibatches": 4}
PPO = {"64 x 16": ("ppo", 64, {**SIZES, "num_envs": 16}), "1 x 2048": ("ppo", 1, {**SIZES, "num_envs": 2048})}
REINFORCE = {"64 x 16, untrained": ("reinforce", 64, {"num_envs": 16, "normalize": True, "learning_rate": 1e-9})}
LEVEL = "xla_backend_optimization_level"


def asked_twice(policy, params, trajectory):
    """The critic looks at every next observation too."""
    steps = trajectory.reward.shape[0]
    if has_memory(policy) or steps % 4:
        return policy.evaluate(params, trajectory)
    pieces = jax.tree.map(lambda x: x.reshape(steps // 4, 4, *x.shape[1:]), trajectory)
    now = jax.lax.map(lambda piece: policy.evaluate(params, piece), pieces)
    return jax.tree.map(lambda x: x.reshape(steps, *x.shape[2:]), now)


def scan(step, carry, inputs, going):
    del going
    return jax.lax.scan(step, carry, inputs)


def patched(module, name, value):
    return lambda: mock.patch.object(module, name, value)


# What is undone or tried: name -> (cases, a context to trace in, settings, options of the compiler, devices).
TRICKS = {
    "one device for all cores": (PPO, contextlib.nullcontext, {}, {}, 1),
    "gradient of a minibatch at once": (PPO, patched(surrogate, "row_pieces", lambda shape: 1), {}, {}, None),
    "critic asked at every next observation": (PPO, patched(pieces, "evaluate", asked_twice), {}, {}, None),
    "shuffle by random.permutation": (PPO, patched(minibatches, "shuffle", jax.random.permutation), {}, {}, None),
    "no shuffle at all": (PPO, patched(minibatches, "shuffle", lambda key, rows: jnp.arange(rows)), {}, {}, None),
    "generator philox4x32": (PPO, contextlib.nullcontext, {"generator": "philox4x32"}, {}, None),
    "LLVM level 3": (PPO, contextlib.nullcontext, {}, {LEVEL: 3}, None),
    "LLVM level 1": (PPO, contextlib.nullcontext, {}, {LEVEL: 1}, None),
    "no fusion emitters": (PPO, contextlib.nullcontext, {}, {"xla_cpu_use_fusion_emitters": False}, None),
    "vectors of 512 bits": (PPO, contextlib.nullcontext, {}, {"xla_cpu_prefer_vector_width": 512}, None),
    "rows behind the end of all episodes computed": (
        REINFORCE,
        lambda: _all(patched(m, "scan_while", scan) for m in (pieces, rollout)),
        {},
        {},
        None,
    ),
}


@contextlib.contextmanager
def _all(contexts):
    with contextlib.ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context())
        yield


class Program:
    """One update of all lanes, on some devices side by side."""

    def __init__(self, case, context=contextlib.nullcontext, more=None, compiler=None, devices=None):
        name, lanes, given = case
        chosen = plan.plan(name, "CartPole-v1", updates=2, settings={**given, **(more or {})})
        group, found = chosen.groups[0], jax.devices()[:devices]
        found = found[: max(n for n in range(1, len(found) + 1) if lanes % n == 0)]
        self.parts, self.compile_seconds = [], 0.0
        for place, device in enumerate(found):
            width = lanes // len(found)
            seeds = list(range(place * width, (place + 1) * width))
            with jax.default_device(device), context():
                keys, hypers = jax.device_put(vectorised.lanes(group.hypers, seeds, group.config.generator), device)
                states = jax.jit(lambda k, h: vectorised.init(k, group.learner, h))(keys, hypers)
                step = jax.jit(lambda k, s, h: vectorised.segment(k, group.learner, s, h, 1), donate_argnums=1)
                lowered = step.lower(keys, states, hypers)
                began = time.perf_counter()
                program = lowered.compile({LEVEL: 2, **(compiler or {})})
                self.compile_seconds = max(self.compile_seconds, time.perf_counter() - began)
            self.parts.append([program, keys, states, hypers])

    def __call__(self):
        began = time.perf_counter()
        for part in self.parts:
            program, keys, states, hypers = part
            part[2] = program(keys, states, hypers)[0]
        jax.block_until_ready([part[2] for part in self.parts])
        return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default="", help="tricks whose name holds this")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="Some donated buffers were not usable")
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    rows = []
    shipped = {where: Program(case) for where, case in {**PPO, **REINFORCE}.items()}
    for name, (cases, *how) in TRICKS.items():
        for where, case in cases.items():
            if options.only not in name:
                continue
            other, base = Program(case, *how), shipped[where]
            times = [(other(), base()) for _ in range(options.repeats + 1)][1:]
            ratios = spread([a / b for a, b in times])
            compiling = other.compile_seconds / base.compile_seconds
            rows.append({"what": name, "where": where, "time": ratios, "compile_time": compiling})
            spans = f"{ratios['median']:.2f} ({ratios['min']:.2f} .. {ratios['max']:.2f})"
            print(f"{name}, {where}: {spans} times as long, compiles in {compiling:.2f} of the time", flush=True)
    write_json(RESULTS / "tricks.json", {"rows": rows, "commit": commit(), "jax": jax.__version__, "cpu": cpu()})


if __name__ == "__main__":
    main()

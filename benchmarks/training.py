"""How fast does pgjax train, and how far is that from what the device could do?

    python benchmarks/training.py
    python benchmarks/training.py --seconds .5 --repeats 2 --only ppo   # a quick look

Rollouts alone, and whole trainings by PPO, A2C and REINFORCE on CartPole-v1 with the roster's networks, for one large
lane, dozens of lanes and thousands: environment steps per second, seconds for each seed, memory, and a roofline. A
process for each measurement, so that each has a peak of its own. Writes results/training.json and results/training.png.
"""

import argparse
import contextlib
import dataclasses
import json
import math
import subprocess
import sys
import time
from unittest import mock

from common import RESULTS, commit, cpu, spread, write_json

SHAPES = ((1, 2048), (64, 16), (2048, 4))  # lanes x environments
PROGRAMS = ("rollout", "ppo", "a2c", "reinforce")
PPO = {"num_steps": 128, "num_epochs": 4, "num_minibatches": 4}  # as in peers.py
LARGEST = 2**20  # rows of one update on a CPU: more take many seconds each
SEGMENT = {"cpu": 2**17}  # rows of one call of a program, at least
ACCELERATED = 2**24


def build(name, lanes, envs, device):
    """A program, and how it is called: (compiled, start, rows of one call, row of the roster, config)."""
    import jax

    from pgjax import algorithms, policies, rollout
    from pgjax import envs as envs_module
    from pgjax.hyperparameters import default_hypers
    from pgjax.training import vectorised

    row = algorithms.entry("ppo" if name == "rollout" else name)
    config = dataclasses.replace(row.config, num_envs=envs, **(PPO if row.config.num_epochs > 1 else {}))
    env = envs_module.make("CartPole-v1")
    policy = policies.make(env, config)
    learner = row.learner(env, policy, row.algorithm, config)
    steps = config.num_steps or env.max_steps
    rows = lanes * envs * steps
    updates = max(1, math.ceil(SEGMENT.get(jax.default_backend(), ACCELERATED) / rows))
    keys, hypers = vectorised.lanes([default_hypers(row.algorithm)], list(range(lanes)), config.generator)
    keys, hypers = jax.device_put((keys, hypers), device)
    start = jax.jit(lambda k, h: vectorised.init(k, learner, h))

    def unroll(key, state):
        def one(stream, key):
            stream, trajectory = rollout.unroll(key, env, policy, state.learner.params, stream, steps)
            # All of it is made, and a number of each array is kept.
            return stream, jax.tree.map(lambda x: x.ravel()[-1], trajectory)

        stream, last = jax.lax.scan(one, state.learner.rollout, jax.random.split(key, updates))
        return state._replace(learner=state.learner._replace(rollout=stream)), last

    def step(keys, states, hypers):
        if name == "rollout":
            return jax.vmap(unroll)(keys, states)
        return vectorised.segment(keys, learner, states, hypers, updates)

    call = jax.jit(step, donate_argnums=1).lower(keys, start(keys, hypers), hypers).compile()
    return call, lambda: (keys, start(keys, hypers), hypers), rows * updates, row, config


@contextlib.contextmanager
def unending():
    """Loops that would end with their episodes go on to their last step, so that their length is known."""
    import jax

    from pgjax import rollout
    from pgjax.estimators import pieces

    with contextlib.ExitStack() as stack:
        for module in (pieces, rollout):
            whole = lambda step, carry, inputs, going: jax.lax.scan(step, carry, inputs)  # noqa: E731
            stack.enter_context(mock.patch.object(module, "scan_while", whole))
        yield


def one(name, lanes, envs, seconds, repeats):
    """In this process: everything about one program at one shape."""
    import resource
    import warnings

    import hlo
    import jax
    import numpy as np
    import peer_jax

    from pgjax.engine import memory

    warnings.filterwarnings("ignore", message="Some donated buffers were not usable")
    began = time.perf_counter()
    devices = peer_jax.every_core(lanes)
    width = lanes // len(devices)
    parts = []
    for device in devices:
        with jax.default_device(device):
            call, start, rows, row, config = build(name, width, envs, device)
        parts.append((call, start))
    compile_seconds, rows = time.perf_counter() - began, rows * len(devices)
    with jax.default_device(devices[0]), unending():
        counted_program, _, counted_rows, _, _ = build(name, width, envs, devices[0])

    def run(calls):
        given = jax.block_until_ready([list(start()) for _, start in parts])
        began, counted = time.perf_counter(), 0.0
        for _ in range(calls):
            done = jax.block_until_ready([call(*x) for (call, _), x in zip(parts, given, strict=True)])
            for x, (states, metrics) in zip(given, done, strict=True):
                x[1] = states
                steps = rows / len(parts) if name == "rollout" else np.asarray(metrics["env_steps"]).sum(dtype=float)
                counted += float(steps)
        return time.perf_counter() - began, counted

    run(1)
    calls = max(1, round(seconds / run(1)[0]))
    runs = [run(calls) for _ in range(repeats)]
    rate, counted = [calls * rows / s for s, _ in runs], [n / s for s, n in runs]
    needs, text = parts[0][0].memory_analysis(), counted_program.as_text()
    found, once, said = hlo.cost(text), hlo.cost(text, trips=False), counted_program.cost_analysis()
    stats = jax.devices()[0].memory_stats() or {}
    return {
        "program": name,
        "lanes": lanes,
        "envs": envs,
        "rows_per_call": rows,
        "calls": calls,
        "compile_seconds": compile_seconds,
        # Of REINFORCE, rows behind an episode's end are computed, but they are no environment steps.
        "rows_per_second": spread(rate),
        "env_steps_per_second": spread(counted),
        "seconds_per_seed": None if name == "rollout" else spread([row.steps / n for n in rate]),
        "steps_per_seed": row.steps,
        "flops_per_row": {"compiled": found.flops / counted_rows, "by_hand": by_hand(name, config)},
        "bytes_per_row": found.bytes / counted_rows,
        "loops_of_unknown_length": found.unknown,
        "with_each_loop_once": {
            "flops": {"hlo.py": once.flops, "cost_analysis": said["flops"]},
            "bytes": {"hlo.py": once.bytes, "cost_analysis": said["bytes accessed"]},
        },
        "devices": len(devices),
        "memory_analysis": {
            "arguments": needs.argument_size_in_bytes,
            "results": needs.output_size_in_bytes,
            "between": needs.temp_size_in_bytes,
            "shared": needs.alias_size_in_bytes,
            "needed": memory.needed(parts[0][0]),
        },
        "peak_bytes_of_process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "peak_bytes_of_device": stats.get("peak_bytes_in_use"),
    }


def by_hand(name, config):
    """FLOPs of the matrix products for each row: two for each weight and pass.

    The actor acts, and the critic's value is asked for once. Then each epoch goes forward and back through both, a
    back pass being two products of the forward's size, but for the first layer, whose input needs no gradient.
    """
    widths = (4, *config.hidden)
    torso = [2 * i * o for i, o in zip(widths[:-1], widths[1:], strict=True)]
    actor, critic = (sum(torso) + 2 * widths[-1] * outputs for outputs in (2, 1))
    if name == "rollout":
        return actor
    return actor + critic + config.num_epochs * (3 * (actor + critic) - 2 * torso[0])


def device():
    """In this process: what the device does at most, in FLOP/s of one large product and bytes/s of a large copy."""
    import jax
    import jax.numpy as jnp

    from pgjax.runs import record

    size = 2048 if jax.default_backend() == "cpu" else 8192

    def best(function, *arguments):
        function = jax.jit(function)
        seconds = []
        jax.block_until_ready(function(*arguments))
        for _ in range(7):
            began = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            seconds.append(time.perf_counter() - began)
        return min(seconds)

    def again(y):  # in a loop, so that no new memory is asked for at each pass
        return jax.lax.scan(lambda y, _: (y + 1, None), y, length=8)[0]

    x, y = jnp.ones((size, size)), jnp.ones(2**26)
    peak = {
        "flops_per_second": 2 * size**3 / best(jnp.dot, x, x),
        "bytes_per_second": 8 * 2 * y.nbytes / best(again, y),
        "how": f"jnp.dot of float32 {size} x {size} at the default precision; y + 1 of {y.nbytes / 1e6:.0f} MB, read "
        "and written 8 times in a scan; the best of 7",
    }
    # Of an accelerator's memory a process takes most: no other may hold it while the children run.
    return {**record.machine(), "peak": peak}


def roofline(row, peak):
    """Rows per second that the products and the bytes would each allow, and what share of them is reached.

    What is reached counts environment steps alone: loops that end with their episodes leave rows out, so that for
    REINFORCE it is a lower bound.
    """
    products = peak["flops_per_second"] / row["flops_per_row"]["compiled"]
    moved = peak["bytes_per_second"] / row["bytes_per_row"]
    rate = row["env_steps_per_second"]["median"]
    return {
        "rows_per_second_by_flops": products,
        "rows_per_second_by_bytes": moved,
        "binds": "flops" if products < moved else "bytes",
        "share_of_flops": rate / products,
        # Above 1 where arrays stay in a cache between two instructions: then memory is no limit.
        "share_of_bytes": rate / moved,
    }


def child(*words):
    done = subprocess.run([sys.executable, __file__, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(
            f"training.py {' '.join(map(str, words))}: {(done.stderr.strip() or 'ended').splitlines()[-1]}"
        )
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PROGRAMS), help="programs, with commas between")
    parser.add_argument("--seconds", type=float, default=2.0, help="of one timed run, about")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--device", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.repeats < 1 or options.seconds <= 0:
        parser.error("--repeats must be 1 or more, --seconds above 0")
    if options.device or options.one:
        name, *shape = options.one or ("", 0, 0)
        found = device() if options.device else one(name, *map(int, shape), options.seconds, options.repeats)
        print(json.dumps(found))
        return
    only = options.only.split(",")
    for name in only:
        if name not in PROGRAMS:
            parser.error(f"no program {name!r}; choose from {', '.join(PROGRAMS)}")

    import training_figure

    from pgjax import algorithms

    facts = {"commit": commit(), "cpu": cpu(), **child("--device")}
    rows, skipped = [], []
    for name in only:
        config = algorithms.entry("ppo" if name == "rollout" else name).config
        steps = PPO["num_steps"] if config.num_epochs > 1 else config.num_steps or 500
        for lanes, envs in SHAPES:
            if facts["device"]["platform"] == "cpu" and lanes * envs * steps > LARGEST:
                skipped.append(
                    {"program": name, "lanes": lanes, "envs": envs, "rows_of_an_update": lanes * envs * steps}
                )
                print(
                    f"{name:10s} {lanes:5d} x {envs:4d}: skipped, {lanes * envs * steps} rows of an update", flush=True
                )
                continue
            row = child("--one", name, lanes, envs, "--seconds", options.seconds, "--repeats", options.repeats)
            rows.append(row | {"roofline": roofline(row, facts["peak"])})
            training_figure.show(rows[-1])
    write_json(RESULTS / "training.json", {**facts, "rows": rows, "skipped": skipped})
    training_figure.draw(rows, facts["peak"], RESULTS / "training.png")


if __name__ == "__main__":
    main()

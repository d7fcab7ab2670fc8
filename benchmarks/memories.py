"""How fast does PPO train with a memory that sees all steps at once, against one that goes step by step?

    python benchmarks/memories.py [--smoke]

Each network in turn, again and again in one process; seconds of an update without compilation, medians, and ratios of
neighbours to the GRU's. The network's memory is learned over rollouts of 128 steps. On two cores with nothing beside:
GRU 206 ms an update, LSTM 1.75 of it (1.61 to 1.78), minGRU .19 (.16 to .19), LRU .33 (.30 to .34).
"""

import argparse
import statistics
import time

import jax
from common import cpu

from pgjax import envs
from pgjax.algorithms.roster import entry
from pgjax.config import Config
from pgjax.hyperparameters import default_hypers
from pgjax.training import vectorised

NETWORKS = ("gru", "lstm", "mingru", "lru")


def program(network: str, width: int, lanes: int, steps: int, updates: int):
    """A function that makes `updates` updates, compiled, from one state of all lanes."""
    env, row = envs.make("MemoryChain-bsuite"), entry("ppo")
    config = Config(num_envs=8, num_steps=steps, num_epochs=4, num_minibatches=4, network=network, hidden=(width,))
    learner = row.learner(env, row.policy(env, config), row.algorithm, config)
    keys, hypers = vectorised.lanes([default_hypers(row.algorithm)], list(range(lanes)))
    states = jax.jit(lambda k, h: vectorised.init(k, learner, h))(keys, hypers)
    step = jax.jit(lambda k, s, h: vectorised.segment(k, learner, s, h, updates))
    made = step.lower(keys, states, hypers).compile()
    return lambda: jax.block_until_ready(made(keys, states, hypers))


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a small size")
    options = parser.parse_args(arguments)
    width, lanes, steps, updates, rounds = (4, 2, 8, 1, 1) if options.smoke else (64, 4, 128, 4, 5)
    programs = {name: program(name, width, lanes, steps, updates) for name in NETWORKS}
    seconds: dict[str, list[float]] = {name: [] for name in NETWORKS}
    for run in programs.values():
        run()
    for _ in range(rounds):
        for name, run in programs.items():
            began = time.perf_counter()
            run()
            seconds[name].append((time.perf_counter() - began) / updates)
    print(f"{lanes} lanes of PPO, 8 environments x {steps} steps, width {width}; {cpu()['cores']} cores")
    found = {}
    for name, own in seconds.items():
        ratios = [a / b for a, b in zip(own, seconds["gru"], strict=True)]
        found[name] = statistics.median(ratios)
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{name:7s} {1e3 * statistics.median(own):8.1f} ms an update, {found[name]:.2f} of the GRU ({spread})")
    return found


if __name__ == "__main__":
    main()

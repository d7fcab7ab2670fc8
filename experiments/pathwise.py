"""What is it worth to know the world's derivative? The pathwise gradient against the score function, by horizon.

    python experiments/pathwise.py            # half an hour on two cores at load 13
    python experiments/pathwise.py --smoke    # a size for tests

At an untrained network of 16 + 16 units, 4,096 episodes; both are unbiased (|z| of 2.3 at most in 30). On Reacher,
a smooth world, the variance of one pathwise episode is a 39,200th of that of the score function with a baseline for
each step at 3 steps, a 2,490th at 10, a 153rd at 30, a 7.5th at 100 and a half at 200: the score function's grows
with the rewards that an action didn't earn, the pathwise one with the product of the world's derivatives. On Pendulum
that product explodes as the pole swings over: a 6,660th at 3 steps, a 152nd at 10, a 16th at 30, but at 100 steps
3.3e8 +- 2e8 against 1.63e6 +- .04e6, 200 times as much, and at 200 8e10 +- 7e10 against 4.3e6 +- .1e6: its tails
are so heavy that its own error bars say little, and that no bias can be told from 0 there.
"""

import argparse
import pathlib

import jax
import numpy as np

from pgjax import envs, policies, variance
from pgjax.config import Config
from pgjax.variance.estimators.pathwise import pathwise
from pgjax.variance.findings.table import show

ROWS = ("to_go", "time", "pathwise")


def measure(name, horizon, discount, **size):
    """Both at an untrained network: a report on one world with one time limit."""
    env = envs.make(name, max_steps_in_episode=horizon)
    policy = policies.make(env, Config(hidden=(16,)))
    chosen = {row: variance.ESTIMATORS[row] for row in ROWS[:2]}
    chosen["pathwise"] = pathwise(env, policy, discount=discount)
    return variance.compare(chosen, env, policy, policy.init(jax.random.key(0)), discount=discount, **size)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/pathwise"))
    options = parser.parse_args(arguments)
    horizons = (3, 10) if options.smoke else (3, 10, 30, 100, 200)
    size = {"episodes": 4096, "batch": (1, 16, 128), "reference_episodes": 65536, "pilot": 512}
    if options.smoke:
        size = {"episodes": 256, "batch": (1, 8), "reference_episodes": 4096, "pilot": 128}
    found = {}
    for name in ("Reacher-misc",) if options.smoke else ("Reacher-misc", "Pendulum-v1"):
        print(f"\n{name}\n{'steps':>5s} {'estimator':10s}{'variance of one episode':>26s}{'|bias|':>24s}{'z':>7s}")
        for horizon in horizons:
            rows = measure(name, horizon, 0.99, **size).summary["estimators"]
            for row in ROWS:
                found[name, horizon, row] = rows[row]
                cells = (show(rows[row]["trace"]), show(rows[row]["bias"]))
                print(f"{horizon:5d} {row:10s}{cells[0]:>26s}{cells[1]:>24s}{rows[row]['bias_z']:7.1f}")
            ratio = rows["time"]["trace"]["value"] / rows["pathwise"]["trace"]["value"]
            print(
                f"      with a baseline, the score function's variance is {ratio:.3g} times the pathwise one",
                flush=True,
            )
    draw(options.out, found)
    return found


def draw(out, found):
    from matplotlib.figure import Figure

    worlds = list(dict.fromkeys(name for name, _, _ in found))
    figure = Figure(figsize=(4.6 * len(worlds), 3.8), layout="constrained")
    labels = {"to_go": "score function, reward-to-go", "time": "score function, a baseline for each step"}
    for axes, name in zip(np.ravel(figure.subplots(1, len(worlds))), worlds, strict=True):
        horizons = list(dict.fromkeys(steps for world, steps, _ in found if world == name))
        for row in ROWS:
            y, e = (np.array([found[name, h, row]["trace"][part] for h in horizons]) for part in ("value", "se"))
            axes.errorbar(horizons, y, 2 * e, fmt="o-", ms=4, capsize=2, label=labels.get(row, row))
        axes.set(xscale="log", yscale="log", xlabel="steps of an episode", title=name)
        axes.set_ylabel("variance of one episode's gradient")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "pathwise.png", dpi=150)


if __name__ == "__main__":
    main()

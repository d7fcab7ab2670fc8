"""PPO on one environment of each suite, beside what the suite's authors or a peer publish at the same steps.

    python experiments/suite.py --only navix,xminigrid   # 6 minutes each on two cores at load 10
    python experiments/suite.py --smoke                  # a size for tests

The table, and every seed, is in README.md. On DoorKey-5x5 it comes to 0.95 (0.95 to 0.96; Navix) and 0.83 (0.66 to
1.00; XLand-MiniGrid) after 100,000 steps, where RL Zoo's single run has 0.97. After 1,048,576 steps it comes to 10.8
(8.3 to 12.8) on pgx's Breakout, where pgx's curve is at about 1, and to 996 (992 to 999) on Playground's
CartpoleBalance, where SLM Lab's PPO has 918 after 2 million. Craftax has not been run to its end. A suite that isn't
installed is left out, and said so.
"""

import argparse
import json
import pathlib
import time
from typing import Any, NamedTuple

import jax
import numpy as np

import pgjax
from pgjax import dependencies, envs, policies, rollout
from pgjax.config import Config
from pgjax.statistics import bootstrap


class World(NamedTuple):
    """One row of the table.

    Attributes:
      env: the environment's name.
      settings: of PPO where the row's defaults are not taken, and of the environment.
      steps: of training.
      published: what others report; source: where.
    """

    env: str
    settings: dict[str, Any]
    steps: int
    published: str
    source: str


# RL Zoo's PPO has 8 environments and these numbers; its reward is 1 - .9 t / 250 at the goal.
ZOO = {"num_envs": 8, "num_steps": 128, "num_epochs": 10, "num_minibatches": 16, "learning_rate": 2.5e-4}
DOOR_KEY = ("0.97 at 100,000 (one run)", "RL Zoo: the card of sb3/ppo-MiniGrid-DoorKey-5x5-v0, hyperparams/ppo.yml")
WORLDS = {
    "navix": World(
        "navix:Navix-DoorKey-5x5-v0",
        {**ZOO, "env.max_steps": 250, "env.penality_coeff": 0.9, "env.observation": "symbolic_first_person"},
        100_000,
        *DOOR_KEY,
    ),
    "xminigrid": World("xminigrid:MiniGrid-DoorKey-5x5", {**ZOO, "env.max_steps": 250}, 100_000, *DOOR_KEY),
    "jumanji": World(
        "jumanji:Maze-v0",
        {"num_envs": 16, "num_steps": 64},
        131_072,
        "0.28 of random legal moves; none of a learner in numbers",
        "Jumanji's examples/training.ipynb",
    ),
    "pgx": World(
        "pgx:minatar-breakout",
        {"num_envs": 16, "num_steps": 64},
        1_048_576,
        "about 1 at 1,048,576, 50 at 20 million",
        "the curve in pgx's examples/minatar-ppo, a point each 524,288 steps",
    ),
    "craftax": World(
        "craftax:Craftax-Symbolic-v1",
        {"num_envs": 16, "num_steps": 64},
        131_072,
        "4.97 at 1 million (2.2 % of 226)",
        "the scoreboard Craftax-1M of Craftax's README",
    ),
    "playground": World(
        "playground:CartpoleBalance",
        {"num_envs": 16, "num_steps": 64},
        1_048_576,
        "918 at 2 million by PPO, about 995 as the mark set by D4PG",
        "SLM Lab's docs/BENCHMARKS.md, phase 5",
    ),
}
SMOKE = {"num_envs": 2, "num_steps": 4, "num_epochs": 1, "num_minibatches": 1, "hidden": (8,), "eval_episodes": 2}


def untrained(world, seeds, episodes):
    """The mean return of the first policy, which is nearly uniform over the legal actions."""
    given = {name.removeprefix("env."): x for name, x in world.settings.items() if name.startswith("env.")}
    env = envs.make(world.env, **given)
    policy = policies.make(env, Config())

    def play(key):
        key_params, key_play = jax.random.split(key)
        return rollout.evaluate(key_play, env, policy, policy.init(key_params), episodes).episode_return

    return np.asarray(jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(0), seeds))).mean()


def trained(world, seeds, steps, smoke):
    """The return of each seed after training by sampled and by greedy actions, [S] each, and along it [S, U]."""
    settings = {**world.settings, **(SMOKE if smoke else {})}
    run = pgjax.run("ppo", world.env, seeds=seeds, steps=steps, settings=settings, progress=False).metrics
    sampled, greedy = (run[f"final_return_{kind}"].mean("episode").values.ravel() for kind in ("stochastic", "greedy"))
    return sampled, greedy, run.episode_return.transpose("seed", "update").values


def installed(suite):
    """Whether the suite's package is there."""
    try:
        envs.make(WORLDS[suite].env)
    except dependencies.PackageError:
        return False
    return True


def told(x):
    """'mean (low to high)', 95 % over seeds."""
    low, high = bootstrap(x, np.mean)
    return f"{x.mean():.2f} ({low:.2f} to {high:.2f})"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--only", default=",".join(WORLDS), help="suites, separated by commas")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/suite"))
    options = parser.parse_args(arguments)
    seeds = 2 if options.smoke else options.seeds
    head = ["environment", "steps", "untrained", "sampled", "greedy", "each seed, sampled", "published"]
    lines, found = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"], {}
    for suite in options.only.split(","):
        world = WORLDS[suite]
        if not installed(suite):
            print(f"{suite} isn't installed; left out")
            continue
        began, steps = time.perf_counter(), 16 if options.smoke else world.steps
        sampled, greedy, along = trained(world, seeds, steps, options.smoke)
        first = untrained(world, seeds, 2 if options.smoke else 32)
        found[suite] = {"untrained": float(first), "sampled": sampled.tolist(), "greedy": greedy.tolist()}
        each = ", ".join(f"{x:.2f}" for x in sampled)
        cells = [f"`{world.env}`", f"{steps:,}", f"{first:.2f}", told(sampled), told(greedy), each]
        lines.append("| " + " | ".join([*cells, f"{world.published} ({world.source})"]) + " |")
        print(lines[-1], f"{time.perf_counter() - began:.0f} s", flush=True)
    print("\n".join(lines))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.md").write_text("\n".join(lines) + "\n")
    (options.out / "seeds.json").write_text(json.dumps(found, indent=1))
    return found


if __name__ == "__main__":
    main()

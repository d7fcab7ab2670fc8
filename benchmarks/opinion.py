"""Train Stable-Baselines3 on its own worlds with our hyperparameters, and put what comes of it beside learning.json.

    python benchmarks/opinion.py --venvs .venvs
    python benchmarks/opinion.py --torch-python PATH --only ppo-cartpole --seeds 2

The hyperparameters are read from the roster, so they are those of the rows of learning.json that gave no others. Each
seed is a process with one thread; results/opinion.json.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time
from typing import Any

import peer_venvs
from common import RESULTS, commit, cpu, write_json

EPISODES = 32  # of the evaluation after training, as in learning.json
# Row of learning.json -> seeds here, as many as fit in some ten minutes.
SEEDS = {"ppo-cartpole": 8, "sac-pendulum": 4}
WORLDS = {"ppo-cartpole": ("ppo", "CartPole-v1"), "sac-pendulum": ("sac", "Pendulum-v1")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venvs", type=pathlib.Path, help="folder of the peers' environments; makes those missing")
    parser.add_argument("--torch-python", help="interpreter of an environment of requirements-torch.txt")
    parser.add_argument("--only", default=",".join(SEEDS), help="rows with commas between")
    parser.add_argument("--seeds", type=int, help=f"0 to this less one; by default {SEEDS}")
    parser.add_argument(
        "--results", type=pathlib.Path, default=RESULTS, help="folder of learning.json and opinion.json"
    )
    parser.add_argument("--train", help=argparse.SUPPRESS)  # a JSON: what a process of its own shall do
    options = parser.parse_args()
    if options.train:
        print(json.dumps(train(**json.loads(options.train))))
        return 0
    only = options.only.split(",")
    for name in only:
        if name not in SEEDS:
            parser.error(f"no row {name!r}; choose from {', '.join(SEEDS)}")
    try:
        python = peer_venvs.find("torch", options.torch_python, options.venvs)
    except LookupError as error:
        parser.error(str(error))

    known = {row["name"]: row for row in json.loads((options.results / "learning.json").read_text())["rows"]}
    path = options.results / "opinion.json"
    rows = json.loads(path.read_text())["rows"] if path.is_file() else {}
    for name in only:
        rows[name] = measure(name, options.seeds or SEEDS[name], python, known[name])
        write_json(path, {"rows": rows})
        print(f"{name}: Stable-Baselines3 {shown(rows[name]['sb3'])}; pgjax {shown(rows[name]['pgjax'])}")
    return 0


def measure(name: str, seeds: int, python: str, ours: dict[str, Any]) -> dict[str, Any]:
    from learning import less

    job = {"steps": int(ours["env_steps_per_seed"]), **settings(*WORLDS[name])}
    began, found = time.perf_counter(), []
    for seed in range(seeds):
        print(f"{name}: seed {seed}", file=sys.stderr, flush=True)
        words = [python, __file__, "--train", json.dumps({**job, "seed": seed})]
        found.append(json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout))
    wall = time.perf_counter() - began
    kinds = ("stochastic", "greedy")
    theirs = {kind: summary([one[kind] for one in found]) for kind in kinds}
    mine = {kind: summary(ours[kind]["seeds"]) for kind in kinds}
    return {
        **job,
        "env_steps": [one["env_steps"] for one in found],
        "gradient_steps": [one["gradient_steps"] for one in found],
        "sb3": theirs,
        "pgjax": {"command": ours["command"], **mine},
        "pgjax_less_sb3": less(mine["stochastic"]["seeds"], theirs["stochastic"]["seeds"]),
        "wall_seconds": wall,
        "commit": commit(),
        "versions": found[0]["versions"],
        "cpu": cpu(),
    }


def settings(algorithm: str, world: str) -> dict[str, Any]:
    """Our roster's row in Stable-Baselines3's words."""
    from pgjax.algorithms import entry
    from pgjax.hyperparameters import hyperparameters

    row = entry(algorithm)
    plugs = (row.algorithm.advantage, row.algorithm.estimator, row.algorithm.optimizer)
    ours = {name: x for plug in plugs for name, x in hyperparameters(plug).items()}
    config = row.config
    shared = {"learning_rate": ours["learning_rate"], "gamma": ours["discount"]}
    hidden = list(config.hidden)
    if algorithm == "ppo":
        own = {
            "n_steps": config.num_steps,
            "batch_size": config.num_envs * config.num_steps // config.num_minibatches,
            "n_epochs": config.num_epochs,
            "gae_lambda": ours["gae_lambda"],
            "clip_range": ours["clip_eps"],
            "ent_coef": ours["entropy_coef"],
            "vf_coef": ours["value_coef"] / 2,  # of the squared error; ours is of half of it
            "max_grad_norm": ours["max_grad_norm"],
        }
        net = {"pi": hidden, "vf": hidden}
    else:
        own = {
            "buffer_size": ours["buffer_size"],
            "learning_starts": ours["warmup"],
            "batch_size": ours["batch_size"],
            "tau": ours["tau"],
            "target_update_interval": ours["target_period"],
            "train_freq": config.num_steps,
            "gradient_steps": ours["gradient_steps"],
            "ent_coef": f"auto_{ours['initial_alpha']}",
        }
        net = hidden
    return {
        "algorithm": algorithm.upper(),
        "world": world,
        "num_envs": config.num_envs,
        "options": {**shared, **own},
        "network": {"net_arch": net, "activation": config.activation, "adam_eps": ours["eps"]},
    }


def train(
    algorithm: str, world: str, num_envs: int, options: dict, network: dict, steps: int, seed: int
) -> dict[str, Any]:
    """In the environment of PyTorch: one seed."""
    import importlib.metadata

    import stable_baselines3
    import torch
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    torch.set_num_threads(1)  # products this small gain nothing from a second
    model = getattr(stable_baselines3, algorithm)(
        "MlpPolicy",
        make_vec_env(world, n_envs=num_envs, seed=seed),
        policy_kwargs={
            "net_arch": network["net_arch"],
            "activation_fn": {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[network["activation"]],
            "optimizer_kwargs": {"eps": network["adam_eps"]},
        },
        seed=seed,
        device="cpu",
        **options,
    )
    model.learn(steps)
    optimizer = model.policy.optimizer if algorithm == "PPO" else model.critic.optimizer
    worlds = make_vec_env(world, n_envs=EPISODES, seed=10_000 + seed)
    mean = {
        kind: float(evaluate_policy(model, worlds, n_eval_episodes=EPISODES, deterministic=kind == "greedy")[0])
        for kind in ("stochastic", "greedy")
    }
    return {
        **mean,
        "env_steps": model.num_timesteps,
        "gradient_steps": max(int(state["step"]) for state in optimizer.state.values()),
        "versions": {x: importlib.metadata.version(x) for x in ("stable-baselines3", "torch", "gymnasium", "numpy")},
    }


def summary(seeds: list[float]) -> dict[str, Any]:
    import numpy as np

    from pgjax.statistics import bootstrap, iqm

    x = np.asarray(seeds, float)
    interval = lambda f: [float(end) for end in bootstrap(x, f)] if len(x) > 1 else None  # noqa: E731
    return {
        "seeds": x.tolist(),
        "iqm": float(iqm(x)),
        "iqm_95": interval(iqm),
        "mean": float(x.mean()),
        "mean_95": interval(np.mean),
    }


def shown(side: dict[str, Any]) -> str:
    x = side["stochastic"]
    interval = "-" if x["iqm_95"] is None else "{:.1f} to {:.1f}".format(*x["iqm_95"])
    return f"IQM {x['iqm']:.1f} ({interval}), mean {x['mean']:.1f}, {len(x['seeds'])} seeds"


if __name__ == "__main__":
    sys.exit(main())

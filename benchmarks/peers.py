"""Time pgjax against rejax, Stable-Baselines3 and a tutorial's loop: whole trainings, the two sides in turn, as ratios.

    python benchmarks/peers.py --venvs .venvs             # makes the peers' environments there, if they are missing
    python benchmarks/peers.py --rejax-python PATH --torch-python PATH
    python benchmarks/peers.py --venvs .venvs --returns 200000   # also final returns of pgjax and rejax

Each side is a process that has compiled its programs and waits; the parent lets pgjax and its peer run in turn, so
both see the same machine. See README.md for what each side's program includes. Writes results/peers.json and
results/peers.png.
"""

import argparse
import dataclasses
import pathlib
import sys
from typing import Any

import peer
import peer_venvs
from common import RESULTS, commit, cpu, write_json
from peer_worker import Case, Comparison, Side, Worker, measure

PEERS = {"rejax": "rejax", "sb3": "torch", "tutorial": "torch"}  # the environment that each lives in

TRAIN = Comparison("train", "train", "train", "initialisation, rollouts, advantages, updates; no evaluation")
COMPARISONS = (
    TRAIN,
    Comparison(
        "rollout",
        "rollout",
        "rollout",
        "pgjax: actor, environment, reset, next_obs; rejax: actor, environment, reset, and the critic's value",
    ),
    Comparison(
        "rollout and values",
        "rollout_values",
        "rollout",
        "pgjax: the rollout, then value, next_value, log_prob and entropy of all its steps; rejax: as in rollout",
    ),
)
REINFORCE = (
    Comparison("uniform policy", "uniform", "uniform", "episodes of about 22 steps, and the update", "episodes"),
    Comparison("balancing policy", "balancing", "balancing", "episodes of 500 steps, and the update", "episodes"),
)


def name(lanes: int, envs: int) -> str:
    return f"{lanes} lane{'s' * (lanes > 1)} x {envs} envs"


def rejax(lanes: int, envs: int, updates: int, collections: int) -> Case:
    sizes = {"lanes": lanes, "envs": envs, "updates": updates, "collections": collections, "returns": 0}
    sides = {"pgjax": Side("peer_pgjax.py", sizes), "rejax": Side("peer_rejax.py", sizes)}
    return Case(name(lanes, envs), "rejax", sides, COMPARISONS, same_work=True)


def sb3(lanes: int, envs: int, updates: int, their_envs: int, their_updates: int, most: int) -> Case:
    ours = {"lanes": lanes, "envs": envs, "updates": updates, "collections": 0, "returns": 0}
    theirs = {"envs": their_envs, "updates": their_updates}
    sides = {"pgjax": Side("peer_pgjax.py", ours), "sb3": Side("peer_sb3.py", theirs)}
    title = name(lanes, envs) if (lanes, envs) == (1, their_envs) else f"{name(lanes, envs)}, against 1 x {their_envs}"
    return Case(title, "sb3", sides, (TRAIN,), most=most)


def tutorial(lanes: int, updates: int, steps: int) -> Case:
    ours = {"lanes": lanes, "envs": 16, "updates": updates}
    sides = {"pgjax": Side("peer_reinforce.py", ours), "tutorial": Side("peer_tutorial.py", {"steps": steps})}
    title = f"REINFORCE, {lanes} lane{'s' * (lanes > 1)} x 16 episodes, against 1 x 1"
    return Case(title, "tutorial", sides, REINFORCE)


CASES = (
    rejax(lanes=64, envs=16, updates=4, collections=8),
    rejax(lanes=1, envs=2048, updates=2, collections=4),
    sb3(lanes=1, envs=16, updates=100, their_envs=16, their_updates=2, most=99),
    sb3(lanes=64, envs=16, updates=4, their_envs=16, their_updates=2, most=99),
    # One update of Stable-Baselines3 with 2,048 environments takes about ten seconds.
    sb3(lanes=1, envs=2048, updates=2, their_envs=2048, their_updates=1, most=3),
    tutorial(lanes=64, updates=2, steps=6000),
    tutorial(lanes=1, updates=20, steps=6000),
)


def scaled(case: Case, scale: float) -> Case:
    """Runs of another length; `lanes` and `envs` stay."""
    long = ("updates", "collections", "steps")
    sides = {
        who: dataclasses.replace(
            side, sizes={k: max(1, round(v * scale)) if k in long and v else v for k, v in side.sizes.items()}
        )
        for who, side in case.sides.items()
    }
    return dataclasses.replace(case, sides=sides)


def final_returns(steps: int, pythons: dict[str, str], limit: float) -> dict[str, Any]:
    """PPO of pgjax and rejax, 64 lanes x 16 environments, the same steps: what the stochastic policies come to."""
    import numpy as np

    from pgjax.statistics import bootstrap, difference, iqm

    lanes, envs, episodes = 64, 16, 128
    updates = -(-steps // (envs * peer.NUM_STEPS))
    sizes = {"lanes": lanes, "envs": envs, "updates": updates, "collections": 0, "returns": episodes}
    found = {}
    for who, script in (("pgjax", "peer_pgjax.py"), ("rejax", "peer_rejax.py")):
        print(f"final returns: {who}", file=sys.stderr, flush=True)
        worker = Worker(pythons[who], Side(script, sizes), limit)
        try:
            worker.answer()
            found[who] = worker.go("returns")
        finally:
            worker.stop()
    means = {who: np.array(row["returns"]) for who, row in found.items()}  # [L]
    rows = {
        who: {
            "mean": float(x.mean()),
            "mean_interval": [float(end) for end in bootstrap(x, np.mean)],
            "iqm": float(iqm(x)),
            "iqm_interval": [float(end) for end in bootstrap(x, iqm)],
            "env_steps": found[who]["env_steps"],
            "gradient_steps": found[who]["gradient_steps"],
            "by_lane": x.tolist(),
        }
        for who, x in means.items()
    }
    less, *interval = difference(means["pgjax"], means["rejax"], np.mean)  # the sides share no seeds
    return {
        "what": "mean return of episodes of the stochastic policy after training, over lanes; 95 % intervals",
        "case": name(lanes, envs),
        "env_steps_per_lane": updates * envs * peer.NUM_STEPS,
        "episodes_per_lane": episodes,
        **rows,
        "pgjax_less_rejax": less,
        "pgjax_less_rejax_interval": interval,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venvs", type=pathlib.Path, help="folder of the peers' environments; makes those missing")
    for environment in peer_venvs.NAMES:
        parser.add_argument(f"--{environment}-python", help=f"interpreter of an environment with {environment}")
    parser.add_argument("--only", default=",".join(PEERS), help="peers, with commas between")
    parser.add_argument("--repeats", type=int, default=7, help="timed runs of each program of each side")
    parser.add_argument("--scale", type=float, default=1.0, help="length of each timed run, relative to the default")
    parser.add_argument("--returns", type=int, default=0, help="also final returns, after this many steps of a lane")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds that a worker may take for one answer")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, help="folder of peers.json and peers.png")
    options = parser.parse_args()
    options.only = options.only.split(",")
    for who in options.only:
        if who not in PEERS:
            parser.error(f"no peer {who!r}; choose from {', '.join(PEERS)}")
    if options.repeats < 1 or options.scale <= 0 or options.returns < 0:
        parser.error("--repeats must be 1 or more, --scale above 0, --returns 0 or more")
    return options


def command(options: argparse.Namespace, pythons: dict[str, str]) -> str:
    """What to type for the same once more; where the environments lie is each machine's own."""
    words = ["python benchmarks/peers.py --venvs DIR", f"--only {','.join(who for who in PEERS if who in pythons)}"]
    words += [f"--repeats {options.repeats}", f"--scale {options.scale:g}", f"--returns {options.returns}"]
    return " ".join(words)


def main() -> int:
    options = arguments()
    pythons = {"pgjax": sys.executable}
    for environment in sorted({PEERS[who] for who in options.only}):
        there = [who for who in options.only if PEERS[who] == environment]
        try:
            python = peer_venvs.find(environment, getattr(options, f"{environment}_python"), options.venvs)
            pythons |= dict.fromkeys(there, python)
        except LookupError as error:
            print(f"peers.py: skipped {', '.join(there)}: {error}", file=sys.stderr)
    if len(pythons) == 1:
        print("peers.py: no peer is there; give --venvs DIR, which makes their environments", file=sys.stderr)
        return 2

    report = {
        "command": command(options, pythons),
        "commit": commit(),
        "cpu": cpu(),
        "sides": {},
        "cases": [],
    }
    for case in CASES:
        if case.peer in pythons:
            case = scaled(case, options.scale)
            report["cases"].append(measure(case, pythons, options.repeats, options.limit, report["sides"]))
    if options.returns and "rejax" in pythons:
        report["final_returns"] = final_returns(options.returns, pythons, options.limit)
    report["load_average_after"] = cpu()["load_average"]
    write_json(options.results / "peers.json", report)

    import peer_table

    peer_table.draw(report, options.results / "peers.png")
    peer_table.show(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())

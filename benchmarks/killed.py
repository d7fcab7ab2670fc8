"""Is a sweep that was killed again and again, and resumed each time, the sweep that never was?

    python benchmarks/killed.py

512 lanes of PPO on CartPole-v1 (16 learning rates x 32 seeds), once undisturbed, then once more with SIGKILL at
20 random moments. Compares every array of metrics.zarr and the whole state of every lane, bit for bit; exits with 1
where they differ. Writes results/killed.json.
"""

import argparse
import os
import pathlib
import random
import shutil
import subprocess
import sys
import time

import jax
import numpy as np
from common import RESULTS, cpu, write_json

from pgjax.engine import checkpoints
from pgjax.runs import load, record

RATES = ",".join(f"{10 ** (-4 + i / 5):.4g}" for i in range(16))


def command(options, out):
    words = f"sweep ppo CartPole-v1 --seeds {options.seeds} --updates {options.updates} --width {options.width} "
    words += f"--checkpoint {options.checkpoint} --set learning_rate={RATES} --out {out}"
    return [sys.executable, "-m", "pgjax", *words.split()]


def killed(options, out):
    """Lives of the sweep: how long each lasted, and how far its checkpoints were then."""
    generator, lives = random.Random(options.seed), []
    while True:
        resumed = (out / "config.json").is_file()
        words = [sys.executable, "-m", "pgjax", "resume", str(out)] if resumed else command(options, out)
        began = time.time()
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            wait = generator.uniform(*options.life) if len(lives) < options.kills else 3600
            try:
                code = process.wait(wait)
            except subprocess.TimeoutExpired:
                process.kill()
                code = None
        made = sum(int(p.name[7:]) for p in newest(out))
        lives.append({"seconds": time.time() - began, "updates_of_all_chunks": made, "ended": code is not None})
        print(f"life {len(lives)}: {lives[-1]['seconds']:.1f} s, chunks at {made} updates in all", flush=True)
        if code is not None:
            return code, lives


def newest(out):
    return [max(chunk.glob("update-*"), default=pathlib.Path("update-0")) for chunk in out.glob("chunks/*")]


def differences(a, b):
    """Names of arrays that differ between two runs, states of lanes included."""
    one, two = load.load(a), load.load(b)
    found = [n for n in one.metrics.variables if not np.array_equal(one.metrics[n], two.metrics[n], equal_nan=True)]
    for number, chunk in enumerate(one.schedule.chunks):
        shapes = checkpoints.kept_shapes(one.plan.groups[chunk.group], one.schedule.widths[chunk.group])
        states = [run.archive.load(number, shapes).state for run in (one, two)]
        same = jax.tree.map(lambda x, y: np.array_equal(x, y, equal_nan=True), *states)
        found += [f"state of chunk {number}"] * (not all(jax.tree.leaves(same)))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--updates", type=int, default=80)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--checkpoint", type=float, default=3.0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--life", type=float, nargs=2, default=(4.0, 25.0), help="seconds, from and to")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/killed"))
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    began = time.time()
    subprocess.run(command(options, options.out / "undisturbed"), check=True)
    undisturbed = time.time() - began
    code, lives = killed(options, options.out / "killed")
    differ = differences(options.out / "undisturbed", options.out / "killed") if code == 0 else ["it did not end"]
    if (kills := sum(not life["ended"] for life in lives)) < options.kills:
        differ.append(f"only {kills} kills of {options.kills}: give more updates, or shorter lives")
    facts = {
        "command": " ".join(command(options, "OUT")[1:]),
        "lanes": 16 * options.seeds,
        "undisturbed_seconds": undisturbed,
        "kills": kills,
        "lives": lives,
        "differ": differ,
        "cpu": cpu(),
        **record.machine(),
    }
    write_json(RESULTS / "killed.json", facts)
    print("differ: " + ", ".join(differ) if differ else f"bit-identical after {facts['kills']} kills")
    return 1 if differ else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())

"""Time what people wait for against another commit of pgjax, the two in turn, as ratios.

    git clone . ../before && git -C ../before checkout 8298b1b
    python -m venv ../venv && ../venv/bin/pip install six jax==0.10.2 -e "../before[gymnasium]"
    python benchmarks/targets.py --other ../venv/bin/pgjax            # about half an hour on two cores
    python benchmarks/targets.py --other ../venv/bin/pgjax --repeats 1 --only first

Both are programs of the command line, in a folder of their own, with the same words. `first` begins with an empty cache
of compiled programs, `again` has it full. `again in one process` is `pgjax.run` of the same shapes, with other numbers,
by the interpreter beside each program, over its first run; `language` is the training of a transformer, rollout and
update. Writes results/targets.json.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from common import HERE, RESULTS, commit, cpu, spread, write_json

FIRST = "train ppo CartPole-v1 --seeds 32"
# name -> (words, whether the cache is empty, what is compared)
CASES = {
    "first, empty cache": (FIRST, True, "wall"),
    "first, full cache": (FIRST, False, "wall"),
    "images": ("train ppo Breakout-MinAtar --seeds 16 --steps 32768 --set num_envs=64", False, "trained"),
    "gymnasium:LunarLander-v3": ("train ppo gymnasium:LunarLander-v3 --seeds 5 --steps 40960", False, "trained"),
    "gymnasium:CartPole-v1": ("train ppo gymnasium:CartPole-v1 --seeds 5 --steps 81920", False, "trained"),
    "many lanes": ("train ppo CartPole-v1 --seeds 4096 --updates 2", False, "wall"),
}
AGAIN = """
import time, pgjax
for i in range(3):
    began = time.perf_counter()
    settings = {"learning_rate": 1e-3 * (1 + i), "num_envs": 2, "eval_episodes": 2}
    pgjax.run("reinforce", "CartPole-v1", seeds=2, updates=1, progress=False, settings=settings)
    print("took", time.perf_counter() - began)
"""
# 20 updates of 64 answers of 60 tokens, by a transformer of two layers of 64.
LANGUAGE = f"""
import sys, pgjax
sys.path.insert(0, {str(HERE)!r})
import token_world
settings = {{"network": "transformer", "hidden": (64, 64), "pretrain": 0, "num_envs": 64, "num_minibatches": 4}}
settings |= {{"num_epochs": 1, "eval_episodes": 2}}
done = pgjax.run("rloo", token_world.world, seeds=1, updates=20, progress=False, settings=settings)
print("took", done.summary["train_seconds"])
"""


def run(program, words, cache):
    """Seconds in all, seconds of training as the program says, and its peak memory in bytes."""
    with tempfile.TemporaryDirectory() as place:
        command = [*program, *words.split(), "--out", f"{place}/run"]
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{said}")
    trained = float(re.findall(r"trained in ([\d.]+) s", said)[-1])
    return {"wall": took, "trained": trained, "peak": used.ru_maxrss * 1024}


def again(python):
    """Second and third runs over the first one, in one process."""
    with tempfile.TemporaryDirectory() as place:
        said = subprocess.run([python, "-c", AGAIN], cwd=place, capture_output=True, text=True, check=True).stdout
    first, *later = (float(x) for x in re.findall(r"took ([\d.]+)", said))
    return {"first": first, "later": min(later)}


def language(python):
    """Seconds of training, rollout and update, of the transformer."""
    with tempfile.TemporaryDirectory() as place:
        said = subprocess.run([python, "-c", LANGUAGE], cwd=place, capture_output=True, text=True, check=True).stdout
    return float(re.findall(r"took ([\d.]+)", said)[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", required=True, type=pathlib.Path, help="the program pgjax of the other commit")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    options = parser.parse_args()
    sides = {"other": [str(options.other.absolute())], "pgjax": [sys.executable, "-m", "pgjax"]}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (words, empty, what) in CASES.items():
            if options.only not in name:
                continue
            times = {side: [] for side in sides}
            for i in range(options.repeats + (not empty)):  # the first fills the cache
                for side, program in sides.items():
                    fresh = pathlib.Path(folder, f"{side}-{name}-{i}" if empty else side)
                    times[side].append(run(program, words, fresh))
            kept = {side: rows[-options.repeats :] for side, rows in times.items()}
            ratios = [a[what] / b[what] for a, b in zip(kept["pgjax"], kept["other"], strict=True)]
            found[name] = {"words": words, "what": what, "ratio": spread(ratios), **kept}
            peak = {side: max(row["peak"] for row in rows) / 1e9 for side, rows in kept.items()}
            shown = {side: spread([row[what] for row in rows])["median"] for side, rows in kept.items()}
            told(
                f"{name} ({what})",
                shown,
                "s",
                found[name]["ratio"],
                f"peak {peak['pgjax']:.2f} and {peak['other']:.2f} GB",
            )
        if options.only in "language":
            rows = {"other": [], "pgjax": []}
            for _ in range(options.repeats):
                rows["other"].append(language(str(options.other.absolute().parent / "python")))
                rows["pgjax"].append(language(sys.executable))
            ratios = spread([a / b for a, b in zip(rows["pgjax"], rows["other"], strict=True)])
            found["language"] = {**rows, "ratio": ratios, "tokens": 20 * 64 * 60}
            told("language", {side: spread(times)["median"] for side, times in rows.items()}, "s", ratios, "")
        if options.only in "again in one process":
            rows = {"other": [], "pgjax": []}
            for _ in range(options.repeats):
                rows["other"].append(again(str(options.other.absolute().parent / "python")))
                rows["pgjax"].append(again(sys.executable))
            shares = {side: spread([row["later"] / row["first"] for row in every]) for side, every in rows.items()}
            found["again in one process"] = {**rows, "share": shares}
            shown = {side: share["median"] for side, share in shares.items()}
            told("again in one process", shown, "of the first", shares["pgjax"], "")
    write_json(
        RESULTS / "targets.json", {"commit": commit(), "other": str(options.other), "cpu": cpu(), "cases": found}
    )


def told(name, shown, unit, ratio, more):
    span = f"{ratio['median']:.3g} ({ratio['min']:.3g} to {ratio['max']:.3g})"
    print(f"{name}: {shown['pgjax']:.3g} against {shown['other']:.3g} {unit}; {span} {more}", flush=True)


if __name__ == "__main__":
    main()

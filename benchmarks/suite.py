"""Run the benchmarks, one after another, and say what was written.

    python benchmarks/suite.py                 # all that this machine can run
    python benchmarks/suite.py --quick         # a small look, written to runs/benchmarks; prints ratios to results/
    python benchmarks/suite.py --only training,lanes

Each is a process of its own; one that fails is reported, and the others go on. The environments of the peers are made
under --venvs where they are missing, or given with --rejax-python and --torch-python.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

from common import HERE, RESULTS

# name -> what its command line has in a full run, and for a small look
SCRIPTS = {
    "training": ([], ["--seconds", ".5", "--repeats", "2", "--only", "rollout,ppo"]),
    "peers": (["--returns", "200000"], ["--repeats", "1", "--scale", ".25", "--only", "rejax"]),
    "lanes": ([], ["--most", "64", "--repeats", "1"]),
    "gradients": ([], ["--smoke"]),
    "decoding": ([], ["--smoke"]),
    "compiling": ([], ["--repeats", "1"]),
    "kernels": ([], ["--repeats", "3"]),
}
ON_GPU = ("kernels",)
QUICK = pathlib.Path("runs/benchmarks")


def command(name, options):
    words = [sys.executable, str(HERE / f"{name}.py"), *SCRIPTS[name][options.quick]]
    if name == "peers":
        given = {"--rejax-python": options.rejax_python, "--torch-python": options.torch_python}
        words += ["--venvs", str(options.venvs)]
        words += [word for pair in given.items() if pair[1] for word in pair]
    return words


def speeds(name, found):
    """What -> speed, of a benchmark's JSON: larger is faster. Those that a small look writes nothing of have none."""
    if name == "training":
        rows = [(f"{r['program']} {r['lanes']} x {r['envs']}", r["env_steps_per_second"]) for r in found["rows"]]
        return {what: rate["median"] for what, rate in rows}
    if name == "peers":
        both = [(f"{c['peer']}, {c['name']}", one) for c in found["cases"] for one in c["comparisons"]]
        return {f"ratio to {case}, {one['name']}": one["median_of_paired_ratios"] for case, one in both}
    if name == "lanes":
        return {f"{r['lanes']} lanes": 1 / r["seconds_per_lane_update"]["median"] for r in found["rows"]}
    if name == "compiling":
        return {f"wall, {kind}": 1 / found[kind]["wall_seconds"]["median"] for kind in ("cold", "cached")}
    return {}


def compared(folder):
    """(what, its speed now over the stored one) of everything that both have."""
    for name in SCRIPTS:
        now, before = (path / f"{name}.json" for path in (folder, RESULTS))
        if now.is_file() and before.is_file():
            now, before = (speeds(name, json.loads(path.read_text())) for path in (now, before))
            yield from ((f"{name}: {what}", x / before[what]) for what, x in now.items() if what in before)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"a small look, written to {QUICK}")
    parser.add_argument("--only", default=",".join(SCRIPTS), help="benchmarks, with commas between")
    parser.add_argument("--venvs", type=pathlib.Path, default="runs/venvs", help="folder of the peers' environments")
    parser.add_argument("--rejax-python", help="as of peers.py")
    parser.add_argument("--torch-python", help="as of peers.py")
    options = parser.parse_args()
    only = options.only.split(",")
    for name in only:
        if name not in SCRIPTS:
            parser.error(f"no benchmark {name!r}; choose from {', '.join(SCRIPTS)}")

    folder = QUICK.absolute() if options.quick else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "BENCHMARK_RESULTS": str(folder)}
    report, failed = [], False
    for name in only:
        if name in ON_GPU and shutil.which("nvidia-smi") is None:
            report.append(f"{name}: skipped, it needs an NVIDIA GPU")
            continue
        print(f"== {name}", flush=True)
        began, started = time.perf_counter(), time.time()
        code = subprocess.run(command(name, options), env=environment).returncode
        written = sorted(str(path) for path in folder.iterdir() if path.stat().st_mtime >= started)
        failed = failed or code != 0
        ended = f"in {time.perf_counter() - began:.0f} s" if code == 0 else f"FAILED with exit code {code}"
        report.append(f"{name}: {ended}; {', '.join(written) or 'nothing written'}")
    print("\n".join(report))
    if options.quick:
        print("\nagainst the stored results, above 1 where it is faster now (and on this machine):")
        for what, ratio in compared(folder):
            print(f"{ratio:6.2f}  {what}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

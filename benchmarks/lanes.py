"""What does a lane cost, among how many, and an environment, among how many? Seconds, and peak memory under a budget.

    python benchmarks/lanes.py                # 1 to 4,096 lanes, 2 GB: about a quarter of an hour on two cores
    python benchmarks/lanes.py --most 256     # a quick look

PPO on CartPole-v1 with its default sizes, a device for each core, a process for each number of lanes, all with the
same budget: `pgjax.run` finds its width. Then 4,096 lanes at several fixed widths, to see what the best would have
cost; and one lane with 4 to 16,384 environments. A kink is where four times as many cost more for each than before:
the largest is told. Writes results/lanes.json and results/lanes.png.
"""

import argparse
import json
import subprocess
import sys

from common import RESULTS, cpu, spread, write_json


def one(lanes, updates, memory, width, repeats, envs):
    """In this process: seconds of one update of one lane and of one step, and the most memory that the process had."""
    import os
    import resource
    import tempfile

    import jax

    import pgjax

    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))  # as the command line has it
    seconds, widths = [], []
    for _ in range(repeats):
        options = {"memory": memory} if width is None else {"width": width}
        options["settings"] = {"num_envs": envs} if envs else {}
        with tempfile.TemporaryDirectory() as folder:  # without one, every chunk's state would stay in memory
            options["out"] = f"{folder}/run"
            result = pgjax.run("ppo", "CartPole-v1", seeds=lanes, updates=updates, progress=False, **options)
        seconds.append(result.summary["train_seconds"] / (lanes * updates))
        steps = result.summary["env_steps"] / (lanes * updates)
        widths = result.schedule.widths
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = {"lanes": lanes, "envs": envs, "width": widths[0], "seconds_per_lane_update": spread(seconds)}
    return found | {"seconds_per_step": spread([x / steps for x in seconds]), "peak_bytes": peak}


def measured(options, lanes, width=None):
    words = ["--one", str(lanes), "--memory", options.memory, "--repeats", str(options.repeats)]
    # About a thousand lane-updates, ten at least: a segment of its own for each of the first updates.
    words += ["--updates", str(max(options.least, 512 // lanes)), *(["--width", str(width)] if width else [])]
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True)
    row = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{lanes:5d} lanes, {row['width']:5d} at once: {1e3 * row['seconds_per_lane_update']['median']:7.3f} ms for "
        f"each lane and update, peak {row['peak_bytes'] / 1e9:.2f} GB",
        flush=True,
    )
    return row


def environments(options, envs):
    words = ["--one", "1", "--memory", options.memory, "--repeats", str(options.repeats), "--envs", str(envs)]
    words += ["--updates", str(max(2, 4096 // envs))]
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True)
    row = json.loads(done.stdout.splitlines()[-1])
    print(f"{envs:5d} environments: {1e6 * row['seconds_per_step']['median']:.2f} us for each step", flush=True)
    return row


def kink(rows, what):
    """The most that a row costs over the cheapest of those before it."""
    costs = [row[what]["median"] for row in rows]
    return max(now / min(costs[: i + 1]) for i, now in enumerate(costs))


def draw(rows, fixed, envs, budget):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 3.8), layout="constrained")
    left, right, third = figure.subplots(1, 3)
    for name, found, x in (("width found", rows, "lanes"), (f"{fixed[0]['lanes']} lanes, width given", fixed, "width")):
        y = [1e3 * r["seconds_per_lane_update"]["median"] for r in found]
        ends = [[1e3 * r["seconds_per_lane_update"][k] for r in found] for k in ("min", "max")]
        line = left.plot([r[x] for r in found], y, "o-", ms=4, label=name)[0]
        left.fill_between([r[x] for r in found], *ends, color=line.get_color(), alpha=0.2, lw=0)
        right.plot([r[x] for r in found], [r["peak_bytes"] / 1e9 for r in found], "o-", ms=4, label=name)
    left.set(xscale="log", xlabel="lanes (or width)", ylabel="ms for each lane and update", ylim=(0, None))
    right.axhline(budget / 1e9, color="k", ls="--", lw=1, label="budget")
    right.set(xscale="log", xlabel="lanes (or width)", ylabel="peak memory of the process, GB", ylim=(0, None))
    x = [row["envs"] for row in envs]
    third.plot(x, [1e6 * row["seconds_per_step"]["median"] for row in envs], "o-", ms=4)
    ends = [[1e6 * row["seconds_per_step"][k] for row in envs] for k in ("min", "max")]
    third.fill_between(x, *ends, alpha=0.2, lw=0, label="one lane")
    third.set(xscale="log", yscale="log", xlabel="environments of a lane", ylabel="us for each step")
    for axes in (left, right, third):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(RESULTS / "lanes.png", dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=4096)
    parser.add_argument("--memory", default="2GB")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--least", type=int, default=4, help="updates, at least")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--updates", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--width", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--envs", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        given = (options.one, options.updates, options.memory, options.width, options.repeats, options.envs)
        print(json.dumps(one(*given)))
        return
    rows = [measured(options, 4**k) for k in range(7) if 4**k <= options.most]
    fixed = [measured(options, rows[-1]["lanes"], width) for width in (8, 32, 128, 512) if width < options.most]
    envs = [environments(options, 4**k) for k in range(1, 8) if 4**k <= 4 * options.most]
    from pgjax.engine import memory as engine_memory
    from pgjax.runs import record

    best = min(r["seconds_per_lane_update"]["median"] for r in [*rows[-1:], *fixed])
    facts = {
        "memory": options.memory,
        "rows": rows,
        "fixed_widths": fixed,
        "environments": envs,
        "kinks": {"lanes": kink(rows, "seconds_per_lane_update"), "environments": kink(envs, "seconds_per_step")},
        "cost_over_best": rows[-1]["seconds_per_lane_update"]["median"] / best,
        "peak_over_budget": rows[-1]["peak_bytes"] / engine_memory.parse(options.memory),
        "cpu": cpu(),
        **record.machine(),
    }
    write_json(RESULTS / "lanes.json", facts)
    draw(rows, fixed, envs, engine_memory.parse(options.memory))
    print(f"kinks: {', '.join(f'{name} {x:.2f}' for name, x in facts['kinks'].items())}")
    print(f"cost over the best width {facts['cost_over_best']:.3f}, peak over budget {facts['peak_over_budget']:.3f}")


if __name__ == "__main__":
    main()

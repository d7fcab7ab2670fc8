"""Is a sweep the same whoever trains it, what does a death cost, and what does giving out work cost?

    python benchmarks/cluster.py same
    python benchmarks/cluster.py killed
    python benchmarks/cluster.py requeue
    python benchmarks/cluster.py many

Each prints one table; all workers are of this machine. `same` and `killed` train 64 lanes of PPO on CartPole-v1 in 16
chunks, in every way whose package or program is here: see `cluster_ways.WAYS`. `requeue` needs a SLURM, whose sbatch
answers. `--smoke` is a small size of each, to see that it works. The exit code is 1 where metrics differ.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from cluster_jobs import Job
from cluster_ways import PGJAX, ROOT, WAYS, Killer, Watch, carry_out, complete, differing, environment, missing
from common import HERE, RESULTS, commit, cpu

from pgjax.engine import chunks
from pgjax.engine.checkpoints import Folder
from pgjax.engine.leases import Shared
from pgjax.runs import record

BEFORE = "d9abba2"  # the commit before runs were shared
KILLABLE = ("processes", "loky", "dask", "slurm", "array", "work", "ray", "mpi")
SMOKE = {"same": 5e4, "killed": 5e4, "requeue": 2e5, "many": 0}  # steps of a lane
WORLD = HERE / "cluster_world.py"
SMALL = "hidden=4 num_steps=5 num_envs=1 eval_episodes=1"


def words(options: argparse.Namespace) -> list[str]:
    """The sweep: settings x seeds in chunks of four lanes."""
    rates = "learning_rate=1e-3,3e-4" if options.smoke else "learning_rate=1e-3,3e-4,1e-4,3e-3"
    seeds = 4 if options.smoke else 16
    given = f"sweep ppo CartPole-v1 --seeds {seeds} --steps {options.steps:.0f} --width 4 --set {rates}"
    return given.split()


def chosen(options: argparse.Namespace, known: Sequence[str]) -> list[str]:
    """The ways that were asked for and are here."""
    wanted = options.ways.split(",") if options.ways else list(known)
    for way in wanted:
        if way not in known:
            raise SystemExit(f"--ways: no way {way!r}; choose from {', '.join(known)}")
        if lacks := missing(way):
            print(f"{way}: left out, {lacks} isn't here", file=sys.stderr)
    return [way for way in wanted if not missing(way)]


def same(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every way in turn, `--rounds` times: seconds until the results are written, and what differs from one process."""
    ways = list(dict.fromkeys([*chosen(options, list(WAYS)), "one"]))
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    differ: dict[str, set[str]] = {way: set() for way in ways}
    with tempfile.TemporaryDirectory() as before:
        if "baseline" in ways:
            subprocess.run(["git", "worktree", "add", "--detach", before, BEFORE], cwd=ROOT, check=True)
        try:
            for again in range(options.rounds):
                for way in ways:
                    root = pathlib.Path(before) if way == "baseline" else ROOT
                    out = options.out / f"{way}-{again}"
                    seconds[way].append(carry_out(way, words(options), out, env(options, out, root), options.workers))
                    print(f"{way}: {seconds[way][-1]:.1f} s", file=sys.stderr, flush=True)
        finally:
            if "baseline" in ways:
                subprocess.run(["git", "worktree", "remove", "--force", before], cwd=ROOT, check=True)
    for way in ways:
        for again in range(options.rounds):
            differ[way] |= {*differing(options.out / f"{way}-{again}", options.out / "one-0")}
    mean = {way: sum(found) / len(found) for way, found in seconds.items()}
    first = {"over one process": "one"} | ({"over " + BEFORE: "baseline"} if "baseline" in ways else {})
    return [
        {"way": way, "seconds": ", ".join(f"{x:.1f}" for x in seconds[way])}
        | {name: f"{mean[way] / mean[to]:.2f}x" for name, to in first.items()}
        | {"arrays that differ": ", ".join(sorted(differ[way])) or "none"}
        for way in ways
    ]


def killed(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every way with a worker killed every so often, beside workers that nobody disturbs."""
    calm = options.out / "undisturbed"
    watch = Watch(calm)
    wall = carry_out(
        "processes", words(options), calm, env(options, calm), options.workers, each=lambda _: watch.look()
    )
    worked, _, _ = watch.spent()
    rows = [{"way": "undisturbed", "kills": 0, "chunks cut off": 0, "seconds": f"{wall:.0f}", "worked": "1.00x"}]
    rows[0] |= {"trained twice": "0.0 %", "arrays that differ": "none"}
    for way in chosen(options, KILLABLE):
        out = options.out / way
        killer = Killer(Watch(out), options.every, options.kills, options.seed)
        tasks = options.workers + options.kills  # of an array: one for each that dies
        wall = carry_out(way, words(options), out, env(options, out), options.workers, tasks, killer)
        whole, lost, deaths = killer.watch.spent()
        print(f"{way}: {wall:.0f} s, {killer.kills} kills", file=sys.stderr, flush=True)
        rows.append({"way": way, "kills": killer.kills, "chunks cut off": deaths, "seconds": f"{wall:.0f}"})
        rows[-1] |= {"worked": f"{whole / worked:.2f}x", "trained twice": f"{100 * lost / worked:.1f} %"}
        rows[-1]["arrays that differ"] = ", ".join(differing(out, calm)) or "none"
    return rows


def requeue(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A job that is requeued again and again, and one whose limit of two minutes is less than it needs."""
    calm = options.out / "undisturbed"
    wall = carry_out("one", words(options), calm, env(options, calm))
    rows = [{"job": "undisturbed, no SLURM", "starts": 1, "seconds": f"{wall:.0f}"}]
    rows[0] |= {"trained twice": "0 s", "arrays that differ": "none"}
    jobs = [("requeued", 60, options.kills)] + ([] if options.smoke else [("-t 2", 2, 0)])
    for name, limit, times in jobs:
        out, began = options.out / name.replace(" ", ""), time.time()
        command = [*PGJAX, *words(options), "--out", str(out)]
        job = Job(command, out, limit, cpu()["cores"], env(options, out))
        for _ in range(times):
            job.requeue(at_once=options.smoke)
        job.until(lambda out=out: complete(out))
        wall = (out / "summary.json").stat().st_mtime - began
        rows.append({"job": name, "starts": job.starts(), "seconds": f"{wall:.0f}"})
        job.cancel()  # where it was requeued as it ended, it would only print the table once more
        rows[-1]["trained twice"] = f"{job.watch.spent()[1]:.0f} s"
        rows[-1]["arrays that differ"] = ", ".join(differing(out, calm)) or "none"
    return rows


def many(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Many short chunks, whose world sleeps, on more workers than there are cores."""
    rows = []
    updates = max(1, round(options.chunk / (5 * options.pause)) - 4)  # 4: evaluation takes 20 steps
    for way in chosen(options, ("processes", "loky", "dask", "work", "ray")):
        out, sizes = options.out / way, [(0.0, 0.0)]
        given = f"sweep a2c --env {WORLD}:nap --seeds {options.chunks} --updates {updates} --width 1"
        its = env(options, out) | {"CLUSTER_PAUSE": str(options.pause), "NPROC": "1"}
        see = lambda pids, sizes=sizes: sizes.append((time.time(), max(map(resident, pids))))  # noqa: E731
        wall = carry_out(way, [*given.split(), "--set", *SMALL.split()], out, its, options.workers, each=see)
        rows.append({"way": way, **pace(out), "seconds": f"{wall:.0f}"})
        held = [size for t, size in sizes if size][len(sizes) // 10 :: max(1, len(sizes) // 5)]
        rows[-1] |= {"a parent's MB over time": ", ".join(f"{size:.0f}" for size in held)}
        rows[-1] |= {"files": sum(len(files) for _, _, files in os.walk(out))}
    return rows


def pace(out: pathlib.Path) -> dict[str, Any]:
    """How fast chunks are given out while all workers are at work: from the last's first chunk to the first's last."""
    claims, archive = Shared(out), Folder(out / "chunks")
    numbers = range(len(chunks.read(out / "chunks.json").chunks))
    seconds = sum(archive.measured(number).seconds for number in numbers) / len(numbers)
    times: dict[str, list[float]] = {}
    for number in numbers:
        who = next(event.who for event in claims.events(number) if event.what == "ended")
        times.setdefault(who, []).append((claims.path / "done" / f"{number:05}").stat().st_mtime)
    first, last = max(map(min, times.values())), min(map(max, times.values()))
    within = sum(first < t <= last for found in times.values() for t in found)
    found = {"chunks": len(numbers), "workers": len(times), "of a chunk": f"{seconds:.2f} s"}
    if not within:
        return found | {"chunks a second": "unknown", "overhead": "unknown"}
    overhead = len(times) * (last - first) / (within * seconds) - 1
    return found | {"chunks a second": f"{within / (last - first):.2f}", "overhead": f"{100 * overhead:.1f} %"}


def resident(pid: int) -> float:
    """Megabytes that a process holds; 0 where it has ended."""
    try:
        return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return 0.0


def env(options: argparse.Namespace, out: pathlib.Path, root: pathlib.Path = ROOT) -> dict[str, str]:
    """Each run compiles anew, as the first on a cluster does; those of `--smoke` need not."""
    if options.smoke:
        return environment(options.out / "cache", root, XLA_FLAGS="--xla_backend_optimization_level=0")
    return environment(options.out / f"cache-{out.name}", root)


def table(command: str, rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown, below the command, the device and the versions."""
    facts, host = record.machine(), cpu()
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version)
    load = host["load_average"][0]
    lines = [f"`python benchmarks/cluster.py {command}`, commit {commit()}", ""]
    lines += [f"{host['model']}, {host['cores']} cores, {facts['device']['kind']}, load {load:.1f}; {versions}", ""]
    lines += [" | ".join(["", *rows[0], ""]).strip(), "|" + "---|" * len(rows[0])]
    return "\n".join(lines + [" | ".join(["", *map(str, row.values()), ""]).strip() for row in rows]) + "\n"


def main() -> int:
    """Run one of the benchmarks, and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("same", "killed", "requeue", "many"))
    parser.add_argument("--smoke", action="store_true", help="a small size")
    parser.add_argument("--ways", help="some of the ways, by commas")
    parser.add_argument("--workers", type=int, help="how many; 8 of `many`, 2 of the others")
    parser.add_argument("--steps", type=float, help="environment steps of a lane")
    parser.add_argument("--rounds", type=int, default=2, help="of `same`: how often each way is tried")
    parser.add_argument("--every", type=float, default=20.0, help="of `killed`: seconds between two kills")
    parser.add_argument("--kills", type=int, help="of `killed`; of `requeue`: how often the job is requeued")
    parser.add_argument("--chunks", type=int, default=1000, help="of `many`")
    parser.add_argument("--chunk", type=float, default=1.0, help="of `many`: seconds of a chunk")
    parser.add_argument("--pause", type=float, default=0.02, help="of `many`: seconds of a step")
    parser.add_argument("--seed", type=int, default=0, help="of who is killed")
    parser.add_argument("--out", type=pathlib.Path, help="where the runs are kept; by default nowhere")
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.every, options.chunks = 1, 3.0, 12
        options.ways = options.ways or {"same": "work", "killed": "work", "many": "processes"}.get(options.what)
    options.workers = options.workers or (8 if options.what == "many" and not options.smoke else 2)
    options.steps = options.steps or (
        SMOKE[options.what] if options.smoke else 2e6 if options.what == "killed" else 1e6
    )
    options.kills = options.kills or (1 if options.smoke else 5 if options.what == "requeue" else 20)
    with tempfile.TemporaryDirectory() as place:
        options.out = (options.out or pathlib.Path(place)).absolute()
        options.out.mkdir(parents=True, exist_ok=True)
        rows = {"same": same, "killed": killed, "requeue": requeue, "many": many}[options.what](options)
    text = table(" ".join(sys.argv[1:]), rows)
    print(text)
    if not options.smoke:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"cluster_{options.what}.md").write_text(text)
    return int(any(row.get("arrays that differ", "none") != "none" for row in rows if row.get("way") != "baseline"))


if __name__ == "__main__":
    sys.exit(main())

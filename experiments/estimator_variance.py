"""What does each rung of the ladder of policy-gradient estimators buy, early and late in training?

    python experiments/estimator_variance.py            # two to three minutes
    python experiments/estimator_variance.py --smoke    # a size for tests

One seed of PPO on CartPole-v1, 2,048 episodes a stage, 8,192 of reference. At mean returns 22 (untrained), 103 and
386 one episode's variance is, over |dJ|^2: full return 32, 128, 4400; reward-to-go 5.9, 11.5, 317; with the critic
as baseline 5.9, 6.3, 17.8. So the baseline does nothing untrained and is worth 18 times the episodes late, when it
reaches a cosine of .985 +- .002 at 256 episodes and reward-to-go .71 +- .21. GAE (1.9, .57, 1.1) and
all-action (.007, .0003, 7.9) have less, but bootstrap from PPO's own critic, which costs more than it saves here: at
256 episodes GAE's cosines are .993, .972 and -.35 +- .10, those of the baseline .9986, .989 and .985; all-action's
are -.04, .25 and -.963. (dJ keeps gamma^t and the time limit, PPO neither.) Nearly all of a step's variance comes from
the action, least from the state. The late full return's state term is -4300 +- 1434, and no variance is negative.
"""

import argparse
import dataclasses
import pathlib

import jax
import numpy as np

import pgjax
from pgjax import rollout, variance
from pgjax.variance.findings import figures
from pgjax.variance.findings.table import show

LADDER = {
    "full": "full return",
    "to_go": "reward-to-go",
    "value": "+ baseline V",
    "gae": "GAE",
    "all_action": "all-action",
}
WANTED = {"early": None, "middle": 100.0, "late": 400.0}  # mean returns; None is the untrained policy


def stages(run, episodes):
    """Stage -> (update, mean return, params): of all snapshots, those whose mean return is nearest to WANTED."""
    found = {}
    for update in run.updates:
        env, policy, params = run.lane(seed=0, update=update)
        played = jax.jit(
            lambda p, env=env, policy=policy: rollout.evaluate(jax.random.key(1), env, policy, p, episodes)
        )
        found[update] = (update, float(played(params).episode_return.mean()), params)
    chosen = {}
    for stage, wanted in WANTED.items():
        left = [x for u, x in found.items() if u not in {c[0] for c in chosen.values()}]
        chosen[stage] = left[0] if wanted is None else min(left, key=lambda x: abs(x[1] - wanted))
    return env, policy, chosen


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/estimator_variance"))
    options = parser.parse_args(arguments)
    train = {"updates": 4, "snapshots": 4} if options.smoke else {"snapshots": 32}
    small = {"episodes": 64, "batch": (1, 4), "pilot": 1, "states": 8, "reference_episodes": 256}
    size = small if options.smoke else {"episodes": 2048, "batch": (1, 4, 16, 64, 256), "pilot": 1, "states": 256}

    run = pgjax.run("ppo", "CartPole-v1", out=options.out / "run", progress=False, **train)
    env, policy, chosen = stages(run, 4 if options.smoke else 128)
    discount = float(run.hypers().advantage["discount"])
    measure = variance.prepare(list(LADDER), env, policy, chosen["early"][2], discount=discount, **size)
    reports = {}
    for stage, (update, mean, params) in chosen.items():
        reports[stage] = measure(params)
        s = reports[stage].summary
        print(f"\n{stage}: update {update}, mean return {mean:.1f}; |dJ| {show(s['gradient_norm'])},", end=" ")
        print(f"{s['episodes']} episodes, reference of {s['reference_episodes']}, {s['measure_seconds']:.0f} s")
        print(
            f"{'':14s}{'variance':>22s}{'SNR':>22s}{'bias / |dJ|':>18s}{'z':>6s}{'n for cos .9':>16s}  cosine at",
            end=" ",
        )
        print(s["batch"][-1])
        for name, row in s["estimators"].items():
            trace, snr, bias, n = (show(row[k]) for k in ("trace", "snr", "relative_bias", "samples_90"))
            print(f"{LADDER[name]:14s}{trace:>22s}{snr:>22s}{bias:>18s}{row['bias_z']:6.1f}{n:>16s}", end="  ")
            print(show(row["cosine"][-1]))
    print("\nshares of the variance of one step's term: of the trajectory behind it, the action, the state")
    for stage, report in reports.items():
        for name, row in report.summary["estimators"].items():
            if parts := row.get("decomposition"):
                shown = [show(parts[k]) for k in ("trajectory", "action", "state", "total")]
                print(f"{stage:8s}{LADDER[name]:14s}" + "".join(f"{x:>24s}" for x in shown))
    draw(options.out, reports, chosen)
    return reports


def draw(out, reports, chosen):
    from matplotlib.figure import Figure

    labels = {stage: f"{stage} (return {chosen[stage][1]:.0f})" for stage in reports}
    # The full return's terms would leave no height for the others'.
    rest = {
        stage: {n: row for n, row in r.summary["estimators"].items() if n != "full"} for stage, r in reports.items()
    }
    shown = {s: dataclasses.replace(r, summary={**r.summary, "estimators": rest[s]}) for s, r in reports.items()}
    figures.decomposition(shown, out / "decomposition.png", title="CartPole-v1, PPO", xlabel="stage")
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    panels, x = figure.subplots(1, 3), np.arange(len(LADDER))
    titles = ("variance of one episode / |dJ|²", "norm of the bias / |dJ|", "cosine of the largest batch")
    for axes, key, title in zip(panels, ("trace", "relative_bias", "cosine"), titles, strict=True):
        for k, (stage, report) in enumerate(reports.items()):
            scale = report.summary["gradient_norm"]["value"] ** 2 if key == "trace" else 1.0
            rows = [report.summary["estimators"][name][key] for name in LADDER]
            rows = [row[-1] for row in rows] if key == "cosine" else rows
            y, e = (np.array([row[part] for row in rows]) / scale for part in ("value", "se"))
            axes.errorbar(x + 0.08 * (k - 1), y, 2 * e, fmt="o-", ms=4, capsize=2, label=labels[stage])
        axes.set_xticks(x, list(LADDER.values()), rotation=40, ha="right")
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.25)
    panels[0].set_yscale("log")
    panels[1].set_ylim(bottom=0)
    panels[0].legend(frameon=False, fontsize=8)
    figure.suptitle("CartPole-v1, PPO; bars: two standard errors", fontsize=9)
    figure.savefig(out / "ladder.png", dpi=150)


if __name__ == "__main__":
    main()

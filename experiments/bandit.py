"""Two arms that pay almost alike: what does a baseline buy, run by run?

    python experiments/bandit.py            # minutes: five curves, each with its seconds
    python experiments/bandit.py --smoke    # a size for tests

Softmax policy, step .05, 10,000 runs of 10,000 updates; "exact" is the law of the log-odds carried forward on a grid
(`law`). Arms .6/.4 without a baseline: mean P(better arm) .6163 +- .0008 after 100 updates (exact .6160) and
.9337 +- .0003 after 1,000 (.9335). Arms .96/.94 after 10,000, where committed is P < .05:

    baseline           mean P(better), exact        5 %     median   95 %     P < .5     committed, exact
    none               .7612 +- .0036   .7612      .0208   .9599    .9925    21.4 %     10.8 %   10.4 %
    constant 1/2       .8982 +- .0015   .8983      .6128   .9478    .9819     3.7 %      .19 %    .20 %
    running average    .9331 +- .0003              .8785   .9392    .9671     0          0
    exact value        .9331 +- .0003   .9328      .8790   .9390    .9670     0          0       3e-12

So the median run is better off without a baseline, and the mean hides it: almost every pull pays, so that whatever is
drawn grows likelier, the right arm in most runs and the wrong one in some. No run with a running average, of all
rewards up to the present one, was lost, or could be told from the exact value's.
"""

import argparse
import pathlib
import time

import jax
import numpy as np
import scipy.sparse

from pgjax import envs, hyperparameters, policies
from pgjax.advantages import exact_value, monte_carlo
from pgjax.algorithms import on_policy
from pgjax.config import Config
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind
from pgjax.losses import policy_gradient
from pgjax.optimizers import sgd
from pgjax.runs import folder, record
from pgjax.training import vectorised
from pgjax.types import Algorithm

PULL = Config(num_envs=1, num_steps=1, rollout="episodes")  # one pull is an episode, and an update
RATE = 0.05
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
REPORTED = (100, 1000, 5000, 10000)  # updates
BELOW = (0.5, 0.05, 0.01)  # a run is committed to the wrong arm while its P(better arm) < .05, or more strictly < .01


def baselines(chance):
    """Label -> (the advantage with that baseline; its b as a function of P(better arm), where it is one)."""
    plain = bind(monte_carlo, discount=1.0)
    return {
        "no baseline": (plain, lambda p: 0 * p),
        "constant 1/2": (bind(plain, baseline="constant", constant=0.5), lambda p: 0 * p + 0.5),
        "running average": (bind(plain, baseline="running_mean"), None),
        "exact value": (exact_value([chance]), lambda p: p * chance[0] + (1 - p) * chance[1]),
    }


def looks(updates):
    """When the runs are looked at: 0, 1, ... 10, 20, ... 1000, 1100, ... updates; segments of three lengths."""
    return np.array([n for n in range(updates + 1) if n % (1 if n <= 10 else 10 if n <= 1000 else 100) == 0])


def train(chance, advantage, seeds, updates):
    """The preferences [look, seed, arm] of the softmax policy, the better arm first; seconds of running alone."""
    env = envs.make("BernoulliBandit-pgjax", probability=chance)
    algorithm = Algorithm(advantage, surrogate(policy_gradient, reduce="episode"), bind(sgd, learning_rate=RATE))
    learn = on_policy.make_learner(env, policies.make(env), algorithm, PULL)
    keys, hypers = vectorised.lanes([hyperparameters.default_hypers(algorithm)], list(range(seeds)))
    # The metrics of 10,000 updates, left where they are, are never computed.
    segment = jax.jit(lambda states, n: vectorised.segment(keys, learn, states, hypers, n)[0], static_argnums=1)
    states = jax.jit(lambda: vectorised.init(keys, learn, hypers))()
    lengths = np.diff(looks(updates)).tolist()
    programs = {n: segment.lower(states, n).compile() for n in set(lengths)}
    began, seen = time.perf_counter(), [np.asarray(states.learner.params["preference"])]
    for n in lengths:
        states = programs[n](states)
        seen.append(np.asarray(states.learner.params["preference"]))
    assert states.finite.all()
    return np.stack(seen)[:, :, 0].astype(float), time.perf_counter() - began


def law(chance, baseline, updates, width=1e-3, end=12.0):
    """The law of P(better arm) at each look without sampling: P on a grid [n], probabilities [look, n].

    The log-odds x = theta_0 - theta_1 are a Markov chain where b depends on p alone: an update adds
    2 rate (r - b)(1 - p) if the better arm was drawn, -2 rate (r - b) p if the other. What falls between two points
    of the grid is shared between them so that the mean is kept.
    """
    x = np.linspace(-end, end, round(2 * end / width) + 1)
    p = 1 / (1 + np.exp(-x))
    to, share = [], []
    for arm, drawn, score in ((0, p, 1 - p), (1, 1 - p, -p)):
        for reward, paid in ((1, chance[arm]), (0, 1 - chance[arm])):
            place = np.clip((x + 2 * RATE * (reward - baseline(p)) * score + end) / width, 0, len(x) - 1.001)
            low = np.floor(place).astype(int)
            to += [low, low + 1]
            share += [drawn * paid * (low + 1 - place), drawn * paid * (place - low)]
    origin = np.tile(np.arange(len(x)), len(to))
    step = scipy.sparse.csr_array((np.concatenate(share), (np.concatenate(to), origin)), (len(x), len(x)))
    seen = [np.where(np.arange(len(x)) == len(x) // 2, 1.0, 0.0)]
    for n in np.diff(looks(updates)):
        now = seen[-1]
        for _ in range(n):
            now = step @ now
        seen.append(now)
    return p, np.stack(seen)


def describe(better, exact=None):
    """What is known of P(better arm) [seed] at one look, beside its exact law (P, probability) where there is one."""
    root = len(better) ** 0.5
    found = {
        "mean": {"value": better.mean(), "se": better.std() / root},
        "quantiles": {f"{q:g}": np.quantile(better, q) for q in QUANTILES},
        "below": {},
    }
    for limit in BELOW:
        share = np.mean(better < limit)
        found["below"][f"{limit:g}"] = {"value": share, "se": (share * (1 - share)) ** 0.5 / root}
    if exact is not None:
        p, weight = exact
        found["mean"]["exact"] = weight @ p
        below = np.cumsum(weight)
        found["exact_quantiles"] = {f"{q:g}": p[np.searchsorted(below, q)] for q in QUANTILES}
        for limit in BELOW:
            found["below"][f"{limit:g}"]["exact"] = weight @ (p < limit)
    return found


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/bandit"))
    options = parser.parse_args(arguments)
    seeds, updates = (500, 100) if options.smoke else (10000, 10000)

    began, easy, hard = time.perf_counter(), (0.6, 0.4), (0.96, 0.94)
    chosen = {("arms .6/.4", "no baseline"): (easy, *baselines(easy)["no baseline"])}
    chosen |= {("arms .96/.94", name): (hard, *row) for name, row in baselines(hard).items()}
    when, runs, laws, summary = looks(updates), {}, {}, {}
    for (arms, name), (chance, advantage, baseline) in chosen.items():
        label = f"{arms}, {name}"
        runs[label], seconds = train(chance, advantage, seeds, updates)
        laws[label] = law(chance, baseline, updates) if baseline else None
        summary[label] = {"seconds": seconds, "at": {}}
        print(f"\n{label}: {seeds} seeds x {updates} updates in {seconds:.1f} s")
        print(
            "updates   mean P(better)     exact      z   5, 25, 50, 75, 95 % of runs below       exact median", end=""
        )
        print("".join(f"     P < {limit:4g} (exact)" for limit in BELOW))
        for k in np.flatnonzero(np.isin(when, REPORTED)):
            exact = None if laws[label] is None else (laws[label][0], laws[label][1][k])
            row = describe(probability(runs[label][k]), exact)
            summary[label]["at"][str(when[k])] = row
            report(when[k], row)
    draw_learning(options.out, when, *(x["arms .6/.4, no baseline"] for x in (runs, laws)))
    draw_baselines(options.out, when, {k: probability(x) for k, x in runs.items() if ".96" in k}, laws)
    known = {"seeds": [0, seeds - 1], "updates": updates, "rate": RATE, "seconds": time.perf_counter() - began}
    folder.write_json(options.out / "summary.json", {**known, **record.machine(), "curves": summary})
    return summary


def probability(preference):
    """P(better arm) from preferences [..., 2]."""
    return 1 / (1 + np.exp(preference[..., 1] - preference[..., 0]))


def report(updates, row):
    mean = row["mean"]
    exact, z = mean.get("exact"), (mean["value"] - mean.get("exact", np.nan)) / mean["se"]
    cells = [f"{updates:7d}   {mean['value']:.4f} ± {mean['se']:.4f}"]
    cells += [f"{exact:8.4f} {z:6.1f}" if exact is not None else " " * 15]
    cells += [" ".join(f"{x:.4f}" for x in row["quantiles"].values())]
    cells += [f"{row['exact_quantiles']['0.5']:.4f}" if exact is not None else " " * 6]
    for share in row["below"].values():
        known = f" ({share['exact']:.4f})" if exact is not None else ""
        cells += [f"{share['value']:.4f}{known:9s}"]
    print("   ".join(cells))


def fan(axes, x, y):
    """Quantiles over seeds of y [look, seed]."""
    low, quarter, middle, more, high = np.quantile(y, QUANTILES, axis=1)
    axes.fill_between(x, low, high, alpha=0.2, color="C0", lw=0, label="5 to 95 % of runs")
    axes.fill_between(x, quarter, more, alpha=0.35, color="C0", lw=0, label="25 to 75 %")
    axes.plot(x, middle, color="C0", label="median")
    axes.grid(alpha=0.25)


def draw_learning(out, when, preference, known):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    better = probability(preference)
    fan(left, when[1:], better[1:])
    left.plot(when[1:], better[1:].mean(axis=1), "C1", label="mean")
    dots = np.unique(np.searchsorted(when, np.geomspace(1, when[-1], 20)))
    left.plot(when[dots], (known[1] @ known[0])[dots], "k.", ms=4, label="mean, exact")
    left.set(ylabel="P(better arm)", ylim=(0, 1.02))
    for arm, label in enumerate(("better arm", "other arm")):
        low, middle, high = np.quantile(preference[1:, :, arm], (0.05, 0.5, 0.95), axis=1)
        right.fill_between(when[1:], low, high, alpha=0.25, color=f"C{arm}", lw=0)
        right.plot(when[1:], middle, color=f"C{arm}", label=label)
    right.grid(alpha=0.25)
    right.set(ylabel="preference: median, 5 to 95 %")
    for axes in (left, right):
        axes.set(xscale="log", xlabel="updates")
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(f"arms .6/.4, step {RATE:g}, no baseline, {preference.shape[1]} runs")
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "learning.png", dpi=150)


def draw_baselines(out, when, runs, laws):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    grid = figure.subplots(2, 3)
    for axes, (label, better) in zip(grid[:, :2].flat, runs.items(), strict=True):
        fan(axes, when[1:], better[1:])
        axes.axhspan(0, BELOW[1], color="C3", alpha=0.25, lw=0)
        axes.set(title=label.split(", ")[1], ylim=(0, 1), ylabel="P(better arm)")
    grid[0, 0].legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 0.06))
    above, below = grid[:, 2]
    dots = np.unique(np.searchsorted(when, np.geomspace(1, when[-1], 20)))
    for k, (label, better) in enumerate(runs.items()):
        style = {"color": f"C{k}", "ls": "-" if laws[label] else "--", "zorder": 2 if laws[label] else 3}
        above.plot(when[1:], better[1:].mean(axis=1), label=label.split(", ")[1], **style)
        below.plot(when[1:], 100 * np.mean(better[1:] < BELOW[1], axis=1), **style)
        if laws[label] is not None:
            p, weight = laws[label]
            above.plot(when[dots], (weight @ p)[dots], ".", color=f"C{k}", ms=5)
            below.plot(when[dots], 100 * (weight @ (p < BELOW[1]))[dots], ".", color=f"C{k}", ms=5)
    above.legend(frameon=False, fontsize=8)
    above.set(title="mean; dots: exact", ylabel="P(better arm)")
    below.set(title=f"the wrong arm: P < {BELOW[1]:g}", ylabel="% of runs", ylim=(-0.5, None))
    for axes in grid.flat:
        axes.set(xscale="log", xlabel="updates")
        axes.grid(alpha=0.25)
    figure.suptitle(f"arms .96/.94, step {RATE:g}, {next(iter(runs.values())).shape[1]} runs")
    figure.savefig(out / "baselines.png", dpi=150)


if __name__ == "__main__":
    main()

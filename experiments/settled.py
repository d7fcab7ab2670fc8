"""Five disputes about policy gradients, each settled by as many seeds as it takes; and how often that errs.

    python experiments/settled.py                     # the five questions
    python experiments/settled.py --only weights
    python experiments/settled.py --what error        # false verdicts of two identical algorithms
    python experiments/settled.py --what power        # seeds that it takes, against a test of a fixed number
    python experiments/settled.py --smoke             # a size for tests; also with --what

README.md has the tables.
"""

import argparse
import json
import math
import pathlib

import jax
import numpy as np
from flax import nnx
from scipy import optimize, stats

import pgjax
from pgjax import policies, statistics
from pgjax.statistics import sequences

CONTROL = {"num_envs": 8, "num_steps": 64}
# Two layers of 64 that were taught by 225 gradient steps, and 60 updates of 256 answers.
LANGUAGE = {"num_envs": 256, "num_minibatches": 8, "eval_episodes": 256, "learning_rate": 3e-4, "pretrain": -1}
# Name -> A, B, environment, the margin of equivalence, what is the same for both, and updates or steps.
QUESTIONS = {
    "value clipping": ("ppo", "ppo value_clip=.2", "CartPole-v1", 25, CONTROL, {"steps": 32_768}),
    "advantages": (
        "ppo normalize_advantage=true",
        "ppo normalize_advantage=false advantage.normalize=true",
        "CartPole-v1",
        25,
        CONTROL,
        {"steps": 32_768},
    ),
    "addition": ("rloo", "grpo", "addition", 0.05, LANGUAGE, {"updates": 60}),
    "weights": ("ppo", f"ppo policy={__file__}:default_weights", "CartPole-v1", 25, CONTROL, {"steps": 32_768}),
    "trust region": ("trpo", "ppo", "Acrobot-v1", 10, {}, {"steps": 32_768, "bounds": "none"}),
}
SMOKE = {"hidden": (8,), "eval_episodes": 4}
LEARNED = {"ppo": {"steps": 16_384}, "reinforce": {"updates": 40}}  # of whose final returns synthetic ones are drawn
LEVEL, REPEATS, MOST, BOUND = 0.05, 400, 512, 500.0


def default_weights(env, config):
    """The algorithm's own network, its matrices drawn as flax draws them by default: LeCun et al. 1998, Gaussian."""
    policy, draw = policies.make(env, config), nnx.initializers.lecun_normal()

    def init(key):
        leaves, tree = jax.tree.flatten(policy.init(key))
        keys = jax.random.split(jax.random.fold_in(key, 1), len(leaves))
        again = [draw(k, x.shape, x.dtype) if x.ndim == 2 else x for k, x in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(tree, again)

    return policy._replace(init=init)


def questions(options):
    """Name -> the Settlement; table.md and settled.json have their verdicts and the return of every seed."""
    found, lines, every = (
        {},
        ["| A | B | on | verdict | mean of A - B | IQM of A - B |", "|---|---|---|---|---|---|"],
        {},
    )
    for name in options.only.split(",") if options.only else QUESTIONS:
        a, b, env, margin, settings, length = QUESTIONS[name]
        how = {"most": options.most, "batch": 16}
        if options.smoke:
            settings = {**settings, **SMOKE, **({"pretrain": 2, "num_envs": 8} if env == "addition" else {})}
            how, length = {"most": 2, "batch": 2}, {"updates": 2, "bounds": length.get("bounds")}
        one = pgjax.settle(a, b, env, out=options.out / name, margin=margin, settings=settings, **length, **how)
        numbers = [[f"{x[-1]:.3g}" for x in sequence] for sequence in (one.mean, one.iqm)]
        said = " | ".join(f"{middle} ({low} to {high})" for middle, low, high in numbers)
        shown = [text.replace(f"policy={__file__}:default_weights", "default weights") for text in (a, b)]
        lines.append(f"| {shown[0]} | {shown[1]} | {env} | {one.verdict} | {said} |")
        print(lines[-1], flush=True)
        answer = json.loads((options.out / name / "verdict.json").read_text())
        every[name] = {"a": shown[0], "b": shown[1], "env": env, "margin": margin, "settings": settings, **length}
        every[name]["answer"], found[name] = answer, one
    (options.out / "table.md").write_text("\n".join(lines) + "\n")
    (options.out / "settled.json").write_text(json.dumps(every) + "\n")
    return found


def learned(options):
    """Algorithm -> final returns of its seeds on CartPole-v1, [S]."""
    pools = {}
    for name, length in LEARNED.items():
        how = {"seeds": 64, **length} if not options.smoke else {"seeds": 8, "updates": 2, "settings": SMOKE}
        out = options.out / name
        run = pgjax.run(name, "CartPole-v1", out=out, progress=False, **how)
        pools[name] = run.metrics.final_return_stochastic.mean("episode").values.astype(float)
    return pools


def peeking(differences, level=LEVEL, first=8):
    """[R] whether a paired t test of [R, N] is significant at any number of seeds from `first` on."""
    count = np.arange(1, differences.shape[1] + 1)
    mean = np.cumsum(differences, axis=1) / count
    squares = np.maximum(np.cumsum(differences**2, axis=1) - count * mean**2, 1e-12)[:, first - 1 :]
    count, mean = count[first - 1 :], mean[:, first - 1 :]
    edge = stats.t.ppf(1 - level / 2, count - 1)
    return (np.abs(mean) > edge * np.sqrt(squares / (count - 1) / count)).any(axis=1)


def wrong(sequence, truth=0.0):
    """[R] whether a sequence leaves out the true value at any number of seeds."""
    return ((sequence.low > truth) | (sequence.high < truth)).any(axis=1)


def error(pools, repeats=REPEATS, most=MOST, steps=1024):
    """(pool, method) -> the share of false verdicts on two identical algorithms, looked at after every seed."""
    found = {}
    for name, pool in pools.items():
        x, y = np.random.default_rng(0).choice(pool, (2, repeats, most))
        found[name, "betting, bounds 0 to 500"] = wrong(sequences.betting(x - y, -BOUND, BOUND, LEVEL, steps)).mean()
        found[name, "asymptotic"] = wrong(sequences.asymptotic(x - y, LEVEL)).mean()
        found[name, "asymptotic, of IQMs"] = wrong(sequences.iqm_difference(x, y, LEVEL)).mean()
        found[name, "paired t test after each seed from 8 on"] = peeking(x - y).mean()
    return found


def tilted(pool, effect):
    """Weights [S] of A's and of B's returns, exp(+-c z) of the standardised ones, whose means differ by the effect."""
    scores = (pool - pool.mean()) / pool.std()

    def weights(c):
        return [(w := np.exp(sign * c * scores)) / w.sum() for sign in (1, -1)]

    def found(c):
        (up, first), (down, second) = ((w @ pool, w @ pool**2 - (w @ pool) ** 2) for w in weights(c))
        return (up - down) / math.sqrt(first + second)

    return weights(optimize.brentq(lambda c: found(c) - effect, 0, 5))


def power(pools, repeats=REPEATS, most=MOST, steps=1024):
    """(pool, method) -> [effect, (median, 90 % quantile)] seeds until the interval leaves out 0; inf beyond `most`.

    Effects are in standard deviations of the difference of a pair. A draws the high returns of a pool more often than
    the low ones, and B the low ones, so that both have real returns: see `tilted`.
    """
    generator = np.random.default_rng(1)
    found = {}
    for name, pool in pools.items():
        rows = {"betting": [], "asymptotic": []}
        for effect in EFFECTS:
            x, y = (generator.choice(pool, (repeats, most), p=p) for p in tilted(pool, effect))
            for method, sequence in (
                ("betting", sequences.betting(x - y, -BOUND, BOUND, LEVEL, steps)),
                ("asymptotic", sequences.asymptotic(x - y, LEVEL)),
            ):
                told = sequence.low > 0
                seeds = np.where(told.any(axis=1), told.argmax(axis=1) + 1.0, np.inf)
                rows[method].append([float(np.quantile(seeds, share, method="lower")) for share in (0.5, 0.9)])
        found |= {(name, method): values for method, values in rows.items()}
    return found


EFFECTS = (0.25, 0.5, 1.0)


def fixed(effect, power_):
    """Seeds of a paired t test of that effect and power, at the same level."""
    scores = np.array([-1.0, 1.0] * 500)
    scores *= 1 / scores.std(ddof=1)
    return statistics.seeds_needed(scores + effect, np.zeros(1000), power=power_, level=LEVEL).seeds


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--what", choices=("questions", "error", "power"), default="questions")
    parser.add_argument("--only", help="names of questions, by commas")
    parser.add_argument("--most", type=int, default=MOST, help="seeds of each arm at most")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/settled"))
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.what == "questions":
        return questions(options)
    pools, size = learned(options), {"repeats": 50, "most": 64, "steps": 128} if options.smoke else {}
    for name, pool in pools.items():
        print(f"{name}: {len(pool)} seeds, mean {pool.mean():.1f}, standard deviation {pool.std():.1f}")
    if options.what == "error":
        found = error(pools, **size)
        lines = ["| returns | method | false verdicts | standard error |", "|---|---|---|---|"]
        for (name, method), share in found.items():
            deviation = math.sqrt(share * (1 - share) / size.get("repeats", REPEATS))
            lines.append(f"| {name} | {method} | {share:.3f} | {deviation:.3f} |")
    else:
        found = power(pools, **size)
        lines = [
            "| returns | method | " + " | ".join(f"{effect:g} sd" for effect in EFFECTS) + " |",
            "|---|---|---|---|---|",
        ]
        for (name, method), values in found.items():
            lines.append(f"| {name} | {method} | " + " | ".join(f"{a:g} (90 %: {b:g})" for a, b in values) + " |")
        for share in (0.5, 0.8, 0.9):
            row = " | ".join(f"{fixed(effect, share):g}" for effect in EFFECTS)
            lines.append(f"| normal | t test, fixed number, power {share:g} | {row} |")
    (options.out / f"{options.what}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return found


if __name__ == "__main__":
    main()

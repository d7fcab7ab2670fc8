"""What is each well-known implementation detail of PPO worth? One changed at a time, over 16 seeds.

    python experiments/ppo_details.py            # 25 minutes on two cores that other work shared
    python experiments/ppo_details.py --smoke    # a size for tests

65,536 steps of CartPole and of Acrobot, where the row of the roster comes to 423 and -84. What counts on both: two
towers (a shared one loses 305 and 413: errors of values up to 100 drown the policy's gradient), several epochs and
minibatches (one epoch loses 67 and 38, one minibatch 75 and 55), clipping (177 and 34), and rewards over the spread of
their returns, which gain most: 500 of 500, and 29 of the mean return over training on Acrobot. Normalised
observations lose 112 and 70, worlds of this size having observations of order one. lambda = 0 loses 126 of the mean
over training on CartPole and gains 25 on Acrobot, where lambda = 1 loses 90. Ten epochs gain 77 on CartPole and nothing
on Acrobot; relu gains 77 there and loses 66 here. Within their intervals at 16 seeds, after training: advantages not
normalised (73 of the mean over training on Acrobot), the clip at .1, an early stop, Adam's eps, annealing on CartPole.
Twenty-one details with intervals of 95 % each: one or two of them would leave 0 out by chance.
"""

import argparse
import math
import pathlib

import numpy as np

import pgjax
from pgjax.statistics import bootstrap

# The defaults of the row `ppo` of the roster, by name, and what stands in their place, one at a time.
DEFAULTS = {
    "normalize_advantage": True,
    "advantage.normalize": False,
    "gae_lambda": 0.95,
    "clip_eps": 0.2,
    "value_clip": math.inf,
    "kl_coef": 0.0,
    "stop_kl": math.inf,
    "entropy_coef": 0.01,
    "value_coef": 0.5,
    "max_grad_norm": 0.5,
    "eps": 1e-5,
    "anneal_steps": math.inf,
    "num_epochs": 4,
    "num_minibatches": 4,
    "shared": False,
    "activation": "tanh",
    "normalize_obs": False,
    "scale_rewards": False,
}
DETAILS = {
    "as shipped": {},
    "advantages not normalised": {"normalize_advantage": False},
    "... normalised in the batch": {"normalize_advantage": False, "advantage.normalize": True},
    "lambda = 1": {"gae_lambda": 1.0},
    "lambda = 0": {"gae_lambda": 0.0},
    "no clipping": {"clip_eps": math.inf},
    "clip = .1": {"clip_eps": 0.1},
    "KL penalty 1 for the clip": {"clip_eps": math.inf, "kl_coef": 1.0},
    "early stop at KL .015": {"stop_kl": 0.015},
    "value clipping .2": {"value_clip": 0.2},
    "value_coef = 1": {"value_coef": 1.0},
    "no entropy bonus": {"entropy_coef": 0.0},
    "gradients not clipped": {"max_grad_norm": math.inf},
    "Adam's eps = 1e-8": {"eps": 1e-8},
    "learning rate annealed": {"anneal_steps": None},  # over the whole run
    "1 epoch": {"num_epochs": 1},
    "10 epochs": {"num_epochs": 10},
    "1 minibatch": {"num_minibatches": 1},
    "shared network": {"shared": True},
    "relu": {"activation": "relu"},
    "observations normalised": {"normalize_obs": True},
    "rewards scaled": {"scale_rewards": True},
}
STEPS = {"CartPole-v1": 65_536, "Acrobot-v1": 65_536}
PER_UPDATE = 8 * 64


def settings(updates):
    """One dict for each detail, all of the same names."""
    rows = [{**DEFAULTS, **changed} for changed in DETAILS.values()]
    for row in rows:
        if row["anneal_steps"] is None:
            row["anneal_steps"] = float(updates * row["num_epochs"] * row["num_minibatches"])
    return rows


def measure(env, seeds, updates):
    """Name -> what each seed came to, [S]: the return after training, and the mean over all of training."""
    result = pgjax.run("ppo", env, seeds=seeds, updates=updates, settings=settings(updates), progress=False)
    final = result.metrics.final_return_stochastic.mean("episode").transpose("setting", "seed").values
    course = result.metrics.episode_return.mean("update").transpose("setting", "seed").values  # NaN before an end
    return dict(zip(DETAILS, final, strict=True)), dict(zip(DETAILS, course, strict=True))


def worth(rows):
    """Name -> (mean, difference to "as shipped" and its 95 % interval), seed by seed: they share their first keys."""
    reference, found = rows["as shipped"], {}
    for name, values in rows.items():
        difference = values - reference
        low, high = bootstrap(difference, np.mean) if name != "as shipped" else (0.0, 0.0)
        found[name] = {"mean": float(values.mean()), "difference": float(difference.mean()), "interval": (low, high)}
    return found


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/ppo_details"))
    options = parser.parse_args(arguments)
    if options.smoke:
        for name in [name for name in DETAILS if name not in ("as shipped", "clip = .1", "lambda = 1")]:
            del DETAILS[name]
    found = {}
    for env, steps in STEPS.items() if not options.smoke else [("Catch-bsuite", 2 * PER_UPDATE)]:
        both = measure(env, 2 if options.smoke else options.seeds, steps // PER_UPDATE)
        found[env] = {what: worth(rows) for what, rows in zip(("final", "course"), both, strict=True)}
        print(
            f"{env}: return after training; difference to `as shipped`, 95 % interval; the same for the mean over all"
        )
        for name in DETAILS:
            line = f"{name:28s}"
            for what in ("final", "course"):
                row = found[env][what][name]
                low, high = row["interval"]
                line += f"{row['mean']:9.2f} {row['difference']:+8.2f} ({low:+.2f} to {high:+.2f})  "
            print(line)
    draw(found, options.out)
    return found


def draw(found, out):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(found) + 2.4, 0.26 * len(DETAILS) + 1.4), layout="constrained")
    axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    names = [name for name in DETAILS if name != "as shipped"]
    for panel, (env, rows) in zip(axes, found.items(), strict=True):
        for shift, (what, label) in enumerate((("final", "after training"), ("course", "mean over training"))):
            y = np.arange(len(names)) + 0.3 * shift - 0.15
            middle = np.array([rows[what][name]["difference"] for name in names])
            ends = np.array([rows[what][name]["interval"] for name in names]).T
            bars = np.maximum(0, [middle - ends[0], ends[1] - middle])
            panel.errorbar(middle, y, xerr=bars, fmt="o", ms=3.5, lw=1.2, label=label)
        panel.axvline(0, color="0.6", lw=0.8)
        panel.set(title=env, xlabel="return more than as shipped")
        panel.set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    axes[0].legend(frameon=False, fontsize=8)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "ppo_details.png", dpi=150)


if __name__ == "__main__":
    main()

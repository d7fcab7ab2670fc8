"""PPO takes several steps on one batch. How soon does its surrogate's gradient point elsewhere than J's?

python experiments/ppo_bias.py            # a few minutes
python experiments/ppo_bias.py --smoke    # a size for tests
"""

import argparse
import pathlib

import jax.numpy as jnp
import numpy as np

from pgjax import envs, oracle, policies, variance
from pgjax.variance import exact
from pgjax.variance.weights import Fitted

DISCOUNT = 0.9
ROWS = ("ratio", "ppo_clip", "ppo_kl", "is_decision", "is_trajectory", "v_trace")


def world():
    """The default TabularMDP, a random policy that acts, and its critic: V_t(s) averaged over the visits of s."""
    env, g = envs.make("TabularMDP-pgjax"), np.random.default_rng(1)
    policy = policies.make(env)
    theta = jnp.asarray(g.normal(size=(5, 3)), jnp.float32)
    mdp = oracle.from_env(env, DISCOUNT)
    found = oracle.values(mdp, oracle.probabilities(policy, {"preference": theta, "value": jnp.zeros(5)}, 5))
    value = (found.occupancy * found.value[:-1]).sum(0) / found.occupancy.sum(0)
    params = {"preference": theta, "value": jnp.asarray(value, jnp.float32)}
    along = {"gradient": oracle.gradient(mdp, policy, params)[1]["preference"], "random": g.normal(size=(5, 3))}
    return env, policy, mdp, params, {k: x / np.linalg.norm(x) for k, x in along.items()}


def exactly(name, mdp, policy, params, behaviour, truth):
    """(cosine, bias / norm) of the row's expected estimate; None for PPO's clip, which no recursion gives."""
    tables = [oracle.probabilities(policy, p, 5) for p in (params, behaviour)]
    scores = oracle.scores(policy, params, 5)[..., :15]
    seen = exact.World(mdp, *tables, np.asarray(params["value"], np.float64), scores)
    moments = exact.moments(variance.ESTIMATORS[name], seen, Fitted.none())
    return None if moments is None else compared(moments.mean, truth)


def clipped_exactly(mdp, policy, params, behaviour):
    """The expected gradient of PPO's clip if it were given the exact advantages of the policy that acted, [P]."""
    old, new = (oracle.probabilities(policy, p, 5) for p in (behaviour, params))
    found, rho = oracle.values(mdp, old), new / old
    kept = np.where(found.advantage > 0, rho <= 1.2, rho >= 0.8) * found.advantage
    scores = oracle.scores(policy, params, 5)[..., :15]
    return np.einsum("t,ts,sa,tsa,sap->p", DISCOUNT ** np.arange(mdp.horizon), found.occupancy, new, kept, scores)


def compared(mean, truth, noise=0.0):
    """(cosine, relative distance) of a mean whose own error has the expected square `noise`, which adds to its norm."""
    size = np.linalg.norm(truth)
    cosine = mean @ truth / size / np.sqrt(max(mean @ mean - noise, 1e-12))
    off = mean - truth
    return cosine, np.sqrt(max(off @ off - noise, 0.0)) / size


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/ppo_bias"))
    options = parser.parse_args(arguments)
    distances = (0.0, 1.0) if options.smoke else (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
    seeds, episodes = (2, 2048) if options.smoke else (4, 8192)

    env, policy, mdp, old, directions = world()
    size = {"episodes": episodes, "batch": (1, 16, 256), "pilot": 1}
    measure = variance.prepare(ROWS, env, policy, old, discount=DISCOUNT, **size)
    found = {}
    for direction, unit in directions.items():
        for distance in distances:
            moved = {**old, "preference": old["preference"] + jnp.asarray(distance * unit, jnp.float32)}
            reports = [measure(moved, old, seed) for seed in range(seeds)]
            found[direction, distance] = of_point(reports, mdp, policy, moved, old)
    for direction in directions:
        show(direction, {d: x for (name, d), x in found.items() if name == direction})
    draw(options.out, found)
    return found


def of_point(reports, mdp, policy, params, behaviour):
    """Numbers of one pair of parameters: name -> (value, standard error) over the seeds, or exactly."""
    truth = reports[0].data["truth"].values
    point = {"rows": {}}
    for key in ("kl", "effective_sample_share"):
        point[key] = spread([r.summary[key]["value"] for r in reports])
    for name in ROWS:
        sampled = []
        for r in reports:
            noise = r.summary["estimators"][name]["trace"]["value"] / r.summary["episodes"]
            sampled.append(compared(r.data["mean"].sel(estimator=name).values, truth, noise))
        cosine, bias = (spread(x) for x in zip(*sampled, strict=True))
        trace = spread([r.summary["estimators"][name]["trace"]["value"] for r in reports])
        true = exactly(name, mdp, policy, params, behaviour, truth)
        point["rows"][name] = {"cosine": cosine, "bias": bias, "trace": trace, "exact": true}
    clipped = [r.summary["estimators"]["ppo_clip"]["clip_fraction"]["value"] for r in reports]
    point["exact advantages"] = compared(clipped_exactly(mdp, policy, params, behaviour), truth)
    return {**point, "clipped": spread(clipped), "norm": float(np.linalg.norm(truth))}


def spread(values):
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def show(direction, points):
    print(f"\nalong the {direction} direction; cosine of the expected estimate to dJ, (s) sampled, else exact")
    head = "distance      KL of a step   clipped   effective share  |dJ|"
    print(f"{head}  {'  '.join(f'{name:>15s}' for name in ROWS)}   exact clip")
    for distance, point in points.items():
        cells = []
        for row in point["rows"].values():
            (cosine, se), true = row["cosine"], row["exact"]
            cells.append(f"{cosine:.4f}±{se:.4f}(s)" if true is None else f"{true[0]:15.4f}")
        numbers = [point[k] for k in ("kl", "clipped", "effective_sample_share")]
        shown = "  ".join(f"{v:.4f} ± {se:.4f}" for v, se in numbers)
        print(
            f"{distance:6.2f}   {shown}  {point['norm']:.3f}  {'  '.join(f'{c:>15s}' for c in cells)}  {point['exact advantages'][0]:10.4f}"
        )


def draw(out, found):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    grid = figure.subplots(2, 3)
    for axes, direction in zip(grid, dict.fromkeys(d for d, _ in found), strict=True):
        points = [x for (d, _), x in found.items() if d == direction]
        x = [max(p["kl"][0], 0.0) for p in points]
        for k, name in enumerate(ROWS):
            for panel, key in enumerate(("cosine", "bias", "trace")):
                values, errors = zip(*(p["rows"][name][key] for p in points), strict=True)
                true = key != "trace" and all(p["rows"][name]["exact"] for p in points)
                color, style = f"C{k}", {"fmt": "o", "ms": 4} if true else {"fmt": "o-", "ms": 4}
                axes[panel].errorbar(x, values, 2 * np.array(errors), color=color, capsize=2, label=name, **style)
                if true:
                    axes[panel].plot(x, [p["rows"][name]["exact"][panel] for p in points], color=color)
        for panel in (0, 1):
            y = [p["exact advantages"][panel] for p in points]
            axes[panel].plot(x, y, "k--", lw=1, label="ppo_clip, exact advantages")
        labels = ("cosine of the expected estimate to dJ", "norm of the bias / |dJ|", "variance of one episode")
        for panel, label in zip(axes, labels, strict=True):
            panel.set(xlabel="KL of a step, old to new", ylabel=label, title=f"along the {direction} direction")
            panel.set_xscale("symlog", linthresh=0.01)
            panel.grid(alpha=0.25)
        axes[2].set_yscale("log")
    grid[0, 0].set_ylim(top=1.1)
    grid[0, 0].legend(frameon=False, fontsize=8)
    figure.suptitle("lines: exact where markers stand beside them; bars: two standard errors over seeds", fontsize=9)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "ppo_bias.png", dpi=150)


if __name__ == "__main__":
    main()

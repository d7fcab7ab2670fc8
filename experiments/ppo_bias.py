"""PPO takes several steps on one batch. How soon does its surrogate's gradient point elsewhere than J's?

    python experiments/ppo_bias.py            # a minute
    python experiments/ppo_bias.py --smoke    # a size for tests

On a random MDP, from the policy that acts along dJ's own direction, 4 x 8,192 episodes a point; advantages are
reward-to-go minus the old policy's critic. The ratio alone drifts slowly: exact cosine .9986 at a KL of .039 a
step, .976 at .48. The clip does not: .865 +- .003 at a KL of .010, -.135 +- .006 at .039, -.77 at .48. Two things
do it. What it drops is what had the largest gradient: given exact advantages, it would have .31 at .039. And it
looks at the sign of a noisy advantage, so that of two returns of one action it drops the good and keeps the bad:
beyond the clip the expected update leads back. It is a brake, not an estimate of dJ. The KL penalty turns later
(.988, -.50), V-trace does not (.993, .26). Importance sampling is unbiased, but its variance grows 25 and 150 fold
(2% of the sample are left at KL .48). Along a random direction the clip falls to .72 and comes back to .90.
"""

import argparse
import pathlib

import jax.numpy as jnp
import numpy as np

from pgjax import envs, oracle, policies, variance
from pgjax.advantages.baselines import Fitted
from pgjax.variance.measurement import exact

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


def clipped_exactly(mdp, policy, params, behaviour, truth):
    """The same of PPO's clip if it were given the exact advantages of the policy that acted."""
    old, new = (oracle.probabilities(policy, p, 5) for p in (behaviour, params))
    found, rho = oracle.values(mdp, old), new / old
    kept = np.where(found.advantage > 0, rho <= 1.2, rho >= 0.8) * found.advantage
    weights = np.einsum("t,ts,sa,tsa->sa", DISCOUNT ** np.arange(mdp.horizon), found.occupancy, new, kept)
    return compared(np.einsum("sa,sap->p", weights, oracle.scores(policy, params, 5)[..., :15]), truth)


def compared(mean, truth, noise=0.0):
    """(cosine, relative distance) of a mean whose own error has the expected square `noise`, which adds to its norm."""
    size, off = np.linalg.norm(truth), mean - truth
    cosine = mean @ truth / size / np.sqrt(max(mean @ mean - noise, 1e-12))
    return cosine, np.sqrt(max(off @ off - noise, 0.0)) / size


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/ppo_bias"))
    options = parser.parse_args(arguments)
    distances = (0.0, 1.0) if options.smoke else (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
    seeds, episodes = (2, 2048) if options.smoke else (4, 8192)
    (env, policy, mdp, old, directions), found = world(), {}
    measure = variance.prepare(ROWS, env, policy, old, discount=DISCOUNT, episodes=episodes, batch=(1, 64, 256))
    for direction, unit in directions.items():
        for distance in distances:
            moved = {**old, "preference": old["preference"] + jnp.float32(distance * unit)}
            reports = [measure(moved, old, seed) for seed in range(seeds)]
            found[direction, distance] = of_point(reports, mdp, policy, moved, old)
        show(direction, {d: x for (name, d), x in found.items() if name == direction})
    draw(options.out, found)
    return found


def of_point(reports, mdp, policy, params, behaviour):
    truth = reports[0].data["truth"].values
    numbers = {key: [r.summary[key]["value"] for r in reports] for key in ("kl", "effective_sample_share")}
    numbers["clipped"] = [r.summary["estimators"]["ppo_clip"]["clip_fraction"]["value"] for r in reports]
    point = {"rows": {}, "norm": float(np.linalg.norm(truth)), **{key: spread(x) for key, x in numbers.items()}}
    for name in ROWS:
        sampled = []
        for r in reports:
            noise = r.summary["estimators"][name]["trace"]["value"] / r.summary["episodes"]
            sampled.append(compared(r.data["mean"].sel(estimator=name).values, truth, noise))
        cosine, bias = (spread(x) for x in zip(*sampled, strict=True))
        trace = spread([r.summary["estimators"][name]["trace"]["value"] for r in reports])
        true = exactly(name, mdp, policy, params, behaviour, truth)
        point["rows"][name] = {"cosine": cosine, "bias": bias, "trace": trace, "exact": true}
    point["exact advantages"] = clipped_exactly(mdp, policy, params, behaviour, truth)
    return point


def spread(values):
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def show(direction, points):
    print(f"\nalong the {direction} direction; cosine of the expected estimate to dJ, exact or (s) sampled")
    head = "distance      KL of a step   clipped   effective share  |dJ|"
    print(f"{head}  {'  '.join(f'{name:>15s}' for name in ROWS)}       exact clip")
    for distance, point in points.items():
        rows = [(row["cosine"], row["exact"]) for row in point["rows"].values()]
        cells = [f"{true[0]:15.4f}" if true else f"{value:.4f}±{se:.4f}(s)" for (value, se), true in rows]
        cells.append(f"{point['exact advantages'][0]:10.4f}")
        numbers = (point["kl"], point["clipped"], point["effective_sample_share"])
        print(f"{distance:6.2f}   {'  '.join(f'{v:.4f} ± {se:.4f}' for v, se in numbers)}", end="  ")
        print(f"{point['norm']:.3f}  {'  '.join(f'{c:>15s}' for c in cells)}")


def draw(out, found):
    from matplotlib.figure import Figure

    grid = (figure := Figure(figsize=(11, 7), layout="constrained")).subplots(2, 3)
    for axes, direction in zip(grid, dict.fromkeys(d for d, _ in found), strict=True):
        points = [x for (d, _), x in found.items() if d == direction]
        x = [max(p["kl"][0], 0.0) for p in points]
        for k, name in enumerate(ROWS):
            for panel, key in enumerate(("cosine", "bias", "trace")):
                values, errors = zip(*(p["rows"][name][key] for p in points), strict=True)
                true = [p["rows"][name]["exact"] for p in points] if key != "trace" else [None]
                style = {"fmt": "o" if all(true) else "o-", "ms": 4, "capsize": 2, "color": f"C{k}", "label": name}
                axes[panel].errorbar(x, values, 2 * np.array(errors), **style)
                if all(true):
                    axes[panel].plot(x, [pair[panel] for pair in true], color=f"C{k}")
        axes[0].plot(x, [p["exact advantages"][0] for p in points], "k--", lw=1, label="exact clip")
        for panel, label in zip(axes, ("cosine to dJ", "norm of the bias / |dJ|", "variance"), strict=True):
            panel.set(xlabel="KL of a step", ylabel=label, title=f"along the {direction} direction")
            panel.set_xscale("symlog", linthresh=0.01)
        axes[2].set_yscale("log")
    grid[0, 0].legend(frameon=False, fontsize=8)
    figure.suptitle("lines without bars: exact; bars: two standard errors over seeds", fontsize=9)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "ppo_bias.png", dpi=150)


if __name__ == "__main__":
    main()

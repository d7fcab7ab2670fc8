"""Most code drops the factor gamma^t from the policy gradient. How wrong is the update then?

    python experiments/gamma_t.py            # half a minute
    python experiments/gamma_t.py --smoke    # a size for tests

On the random MDP hardly: exact cosine .999467, though the length is 1.6367 for 1.0986. In the shop below, for a
policy that can't tell states apart, the cosine is -1, and 100 exact steps lead towards the worst policy by either
measure: J 1.277 -> .941 and undiscounted J 15.50 -> 10.30; with gamma^t 1.566 and 19.97. The gradient sees the
gate above all, where action 1 pays. Without gamma^t the ten visits to the shop count in full, and each looks
ahead with the discount still: 1 now beats 2 x .7^3 later. (Nota & Thomas 2020 have such an example.) A table in
place of the blind policy scales each state's part by a positive number, so the cosine stays positive: .556. The
sign changes at discount .5^(1/3) = .794, where the delayed 2 is worth 1. 16,384 episodes agree with all of it.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pgjax import envs, oracle, policies, variance
from pgjax.policies.distributions import Categorical

EMPTY, VISITS = 3, 10  # steps between two visits of the shop; visits of an episode


def shop():
    """Once at the gate, then VISITS times at the shop with EMPTY steps after each; two actions everywhere.

    At the gate action 1 pays 1. At the shop action 0 pays 1 now, action 1 pays 2 after the empty steps.
    """
    gate, counter, poor, rich = 0, 1, 2, 2 + EMPTY
    transition, reward = np.zeros((2 + 2 * EMPTY, 2, 2 + 2 * EMPTY)), np.zeros((2 + 2 * EMPTY, 2))
    transition[gate, :, counter] = 1
    transition[counter, 0, poor] = transition[counter, 1, rich] = 1
    for first in (poor, rich):
        for i in range(EMPTY):
            transition[first + i, :, first + i + 1 if i < EMPTY - 1 else counter] = 1
    reward[gate, 1] = reward[counter, 0] = 1
    reward[rich + EMPTY - 1] = 2
    start = np.eye(2 + 2 * EMPTY)[gate]
    horizon = 1 + VISITS * (1 + EMPTY)
    return envs.make("TabularMDP-pgjax", transition=transition, reward=reward, start=start, horizon=horizon)


class Blind(nnx.Module):
    """The same two probabilities whatever is observed."""

    def __init__(self, rngs):
        self.preference, self.value = nnx.Param(jnp.zeros(2)), nnx.Param(jnp.zeros(()))

    def __call__(self, obs):
        logits = jnp.broadcast_to(self.preference[...], (*obs.shape, 2))
        return Categorical(logits), jnp.broadcast_to(self.value[...], obs.shape)


def random_world():
    """The default TabularMDP and the table of logits of GROUND_TRUTH's random MDP."""
    env, g = envs.make("TabularMDP-pgjax"), np.random.default_rng(0)
    g.dirichlet(np.ones(5), size=(5, 3)), g.normal(size=(5, 3)), g.dirichlet(np.ones(5))
    theta = jnp.asarray(g.normal(size=(5, 3)), jnp.float32)
    return env, policies.make(env), {"preference": theta, "value": jnp.zeros(5)}


def updates(env, policy, params, discount):
    """(J, with gamma^t, without), the two expected updates as vectors, exactly.

    sum_t gamma^t E[A_t(s_t, a_t) d log pi(a_t | s_t)], the policy-gradient theorem (Sutton et al. 2000).
    """
    mdp = oracle.from_env(env, discount)
    pi = oracle.probabilities(policy, params, len(mdp.start))
    found, scores = oracle.values(mdp, pi), oracle.scores(policy, params, len(mdp.start))
    terms = np.einsum("ts,sa,tsa,sap->tp", found.occupancy, pi, found.advantage, scores)
    return float(found.objective), discount ** np.arange(len(terms)) @ terms, terms.sum(axis=0)


def cosine(a, b):
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def climb(env, policy, params, discount, which, steps, rate=0.1):
    """(J_gamma, J_1) before each of `steps` exact steps along update `which`: 1 with gamma^t, 2 without."""
    flat, tree = jax.flatten_util.ravel_pytree(params)
    seen = []
    for _ in range(steps):
        found = updates(env, policy, tree(flat), discount)
        seen.append((found[0], updates(env, policy, tree(flat), 1.0)[0]))
        flat = flat + rate * jnp.asarray(found[which], jnp.float32)
    return np.array(seen)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/gamma_t"))
    options = parser.parse_args(arguments)
    episodes, steps, points = (512, 3, 3) if options.smoke else (16384, 100, 25)

    env, policy, params = random_world()
    settings = {"random MDP, table": (env, policy, params, 0.9)}
    for name, policy in {"table": policies.make(shop()), "blind": policies.from_nnx(Blind)}.items():
        settings[f"shop, {name}"] = (shop(), policy, policy.init(jax.random.key(0)), 0.7)
    found = {}
    print(f"{'':18s}|gradient|   |without|    distance  cosine, exact  cosine, measured   bias, measured")
    for name, (*world, discount) in settings.items():
        _, gradient, without = updates(*world, discount)
        report = variance.compare(["no_gamma_t"], *world, discount=discount, episodes=episodes, batch=(1, 16, 64))
        row, mean = report.summary["estimators"]["no_gamma_t"], report.data["mean"].sel(estimator="no_gamma_t").values
        bias = [row["bias"]["value"], row["bias"]["se"], row["exact_bias"]["value"]]
        found[name] = {"gradient": gradient, "without": without, "cosine": cosine(gradient, without), "bias": bias}
        found[name] |= {"measured": cosine(mean, report.data["truth"].values)}
        lengths = [np.linalg.norm(x) for x in (gradient, without, gradient - without)]
        shown = "  ".join(f"{x:10.4f}" for x in lengths) + f"  {found[name]['cosine']:13.6f}"
        print(
            f"{name:18s}{shown}  {found[name]['measured']:17.6f}  {bias[0]:.4f} ± {bias[1]:.4f}  (exact {bias[2]:.4f})"
        )

    climbs = {label: climb(*settings["shop, blind"], which, steps) for label, which in (("with", 1), ("without", 2))}
    for label, path in climbs.items():
        print(f"shop, blind, {steps} steps {label} gamma^t: (J, undiscounted J) {path[0]} -> {path[-1]}")
    discounts = np.linspace(0.05, 0.99, points)
    curves = {n: [cosine(*updates(*s[:3], d)[1:]) for d in discounts] for n, s in settings.items()}
    draw(options.out, discounts, curves, climbs)
    return found, climbs


def draw(out, discounts, curves, climbs):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, *right = figure.subplots(1, 3)
    for name, values in curves.items():
        left.plot(discounts, values, ".-", label=name)
    left.axhline(0, color="0.6", lw=0.8)
    left.set(xlabel="discount", ylabel="cosine to the gradient, exact", title="the update without gamma^t")
    for k, (axes, title) in enumerate(zip(right, ("J", "undiscounted J"), strict=True)):
        for label, path in climbs.items():
            axes.plot(path[:, k], label=f"{label} gamma^t")
        axes.set(xlabel="exact steps", title=f"shop, blind: {title}")
    left.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    right[0].legend(frameon=False)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "gamma_t.png", dpi=150)


if __name__ == "__main__":
    main()

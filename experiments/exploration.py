"""What does it cost to let another policy act? Uniform actions mixed in, and an entropy bonus, in the short corridor.

    python experiments/exploration.py            # three minutes on 2 cores, six on busy ones
    python experiments/exploration.py --smoke    # a size for tests

One update at P(right) = .3, where the gradient is 8.48: when a share epsilon of the actions is uniform and nobody
corrects for it, the expected update is 3.46 at epsilon = .1 (131,072 episodes: 3.63 +- .10, z = -49 to the gradient)
and -4.47 at .3 (-4.28 +- .09, z = -144): it points the wrong way. With the importance correction 8.73 +- .14 and
8.73 +- .25 (z 1.9 and 1.0), at 1.4 and 5.2 times the variance on policy, 1594. Where episodes are long the price has
no bound: at P(right) = .05 and epsilon = .1 the recursion of the corrected variance diverges, and so it does here at
.6. Learning from P(right) = .3, step 2^-13, 1,000 episodes, 125 runs, none diverged: on policy the median P(right) is
.520 (J -11.86), corrected .520 at either epsilon, not corrected .470 at .1 (J -12.28) and .000 at .3: J of the policy
that was learned is below -300,000, while the one that acts goes on finding the end. An entropy bonus of 1 helps it on,
.528; one of 10 is the fastest and stops at .514 (J -11.90), between the best .586 and even odds.
"""

import argparse
import pathlib

import corridor
import jax
import numpy as np

from pgjax import envs, oracle, policies, rollout
from pgjax.advantages import monte_carlo
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind
from pgjax.losses import actor_critic, policy_gradient
from pgjax.optimizers import sgd
from pgjax.runs import folder, record
from pgjax.types import Algorithm, Batch

EPSILONS = (0.0, 0.1, 0.3)
AT = 0.3  # P(right) where single updates are measured, and where learning starts
LEARNERS = {  # epsilon, corrected, entropy_coef
    "on policy": (0.0, False, 0.0),
    "epsilon = .1": (0.1, False, 0.0),
    "epsilon = .3": (0.3, False, 0.0),
    "epsilon = .1, corrected": (0.1, True, 0.0),
    "epsilon = .3, corrected": (0.3, True, 0.0),
    "entropy bonus 1": (0.0, False, 1.0),
    "entropy bonus 10": (0.0, False, 10.0),
}


def exact(p, epsilon, corrected, horizon=1000):
    """Mean and variance of an episode's update in the preference of right; b = (1 - epsilon) pi + epsilon / 2 acts.

    X_t = rho_t (d log pi(a_t) (r_t + H_{t+1}) + X_{t+1}) with H_t = rho_t (r_t + H_{t+1}): linear in (X, H, 1), so both
    moments follow a recursion. rho = pi / b, or 1 without correction.
    """
    pi, score = np.array([1 - p, p]), np.array([-p, 1 - p])
    b = (1 - epsilon) * pi + epsilon / 2
    rho, nothing = pi / b if corrected else np.ones(2), np.zeros(2)
    rows = [[rho, rho * score, -rho * score], [nothing, rho, -rho], [nothing, nothing, np.ones(2)]]
    step = np.broadcast_to(np.moveaxis(np.array(rows), 2, 0), (4, 2, 3, 3))[:, :, None]
    end = np.tile([0.0, 0.0, 1.0], (4, 1))
    mdp = corridor.tables()._replace(horizon=horizon)
    mean, second = oracle.moments(mdp, np.tile(b, (4, 1)), lambda t: step, lambda terminated: end)
    return mean[0], second[0, 0] - mean[0] ** 2


def algorithm(corrected):
    """REINFORCE, its update in sum over the episode; with the correction, or taking the actions for its own."""
    advantage = corridor.unfinished_is_nan(bind(monte_carlo, discount=1.0, importance=corrected))
    loss = bind(actor_critic(policy_gradient), importance=corrected, value_coef=0.0)
    return Algorithm(advantage, surrogate(loss, reduce="episode"), sgd)


def sampled(key, p, epsilon, corrected, episodes, limit=256):
    """The same update of each of `episodes` episodes by the package's plugs."""
    env, own = envs.make("ShortCorridor-pgjax"), algorithm(corrected)
    policy = corridor.starting_at(p, env)
    acting = policies.exploring(policy, epsilon)

    def one(key, params):
        trajectory, _ = rollout.episodes(key, env, acting, params, 1, limit)
        now = policy.evaluate(params, trajectory)
        _, (weight, target) = own.advantage.apply(own.advantage.init(), trajectory, now)
        gradient, _ = own.estimator(key, policy, params, Batch(trajectory, weight, target, now.value))
        return -gradient["preference"][0, 1]

    keys = jax.random.split(key, episodes).reshape(-1, min(episodes, 4096))
    # As an argument: what depends on constants alone is computed while compiling, slowly.
    found = jax.jit(lambda keys, params: jax.lax.map(jax.vmap(lambda key: one(key, params)), keys))
    return np.asarray(found(keys, policy.init(key)), np.float64).ravel()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/exploration"))
    options = parser.parse_args(arguments)
    samples, runs, episodes, ladder = (2**17, 125, 1000, (128, 256, 1000))
    if options.smoke:
        samples, runs, episodes, ladder = (2**12, 8, 20, (1000,))

    gradient, updates = exact(AT, 0.0, False)[0], {}
    print(f"one update at P(right) = {AT:g}, where the gradient is {gradient:.4f}")
    print("epsilon  corrected   expected, exact    sampled           z to the gradient   variance, exact     sampled")
    for epsilon in EPSILONS:
        for corrected in (False, True) if epsilon else (False,):
            x = sampled(jax.random.key(1), AT, epsilon, corrected, samples)
            (expected, variance), se = exact(AT, epsilon, corrected), x.std(ddof=1) / np.sqrt(samples)
            row = {"expected": expected, "sampled": x.mean(), "se": se, "z": (x.mean() - gradient) / se}
            updates[epsilon, corrected] = row | {"variance": variance, "sampled_variance": x.var(ddof=1)}
            print(
                f"{epsilon:7g}  {'yes' if corrected else 'no':9s} {expected:17.4f}{x.mean():11.4f} ± {se:.4f}"
                f"{row['z']:20.1f}{variance:18.1f}{x.var(ddof=1):12.1f}"
            )

    made, curves, rows = {}, {}, {}
    print(f"\nlearning, {runs} runs: P(right) after {episodes} episodes, median (5 to 95 %), and its exact J")
    for name, (epsilon, corrected, entropy) in LEARNERS.items():
        if (epsilon, corrected) not in made:
            made[epsilon, corrected] = corridor.programs(algorithm(corrected), "batch", ladder, AT, epsilon)
        hypers = {"optimizer": {"learning_rate": RATE}, "estimator": {"entropy_coef": entropy}}
        curves[name] = corridor.learn(made[epsilon, corrected], runs, episodes, **hypers)
        rows[name] = row = corridor.summarise(curves[name])
        chance = [f"{x:.3f}" for x in row["learned_right"]]
        print(f"{name:26s}P(right) {chance[1]} ({chance[0]} to {chance[2]})", end="")
        print(f"{row['learned_objective']['median']:12.3f}{row['diverged']:6d} diverged{row['seconds']:6.0f} s")
    options.out.mkdir(parents=True, exist_ok=True)
    shown = {f"epsilon={e:g}, corrected={c}": row for (e, c), row in updates.items()}
    found = {"at": AT, "gradient": gradient, "episodes": samples, "updates": shown, "learning_rate": RATE}
    folder.write_json(options.out / "summary.json", {**found, "learning": rows, **record.machine()})
    draw(options.out, gradient, curves, rows)
    return updates, rows


def draw(out, gradient, curves, rows):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    grid = np.linspace(0, max(EPSILONS), 25)
    for corrected, colour in ((False, "C3"), (True, "C0")):
        middle, variance = np.array([exact(AT, e, corrected) for e in grid]).T
        label = "corrected" if corrected else "not corrected"
        left.plot(grid, middle / gradient, colour, label=f"expected update / gradient, {label}")
        left.plot(grid, variance / variance[0], f"{colour}--", label=f"variance / variance on policy, {label}")
    left.set(xlabel="epsilon", title=f"one update at P(right) = {AT:g}, exact")
    left.legend(frameon=False, fontsize=8)
    for k, (name, curve) in enumerate(curves.items()):
        chance = curve.kept()[1]
        x = corridor.SEGMENT * np.arange(1, chance.shape[1] + 1)
        lost = rows[name]["diverged"]
        label = f"{name}; {lost} of {rows[name]['runs']} diverged" if lost else name
        right.plot(x, np.median(chance, axis=0), f"C{k}", label=label)
        right.fill_between(x, *np.quantile(chance, [0.05, 0.95], axis=0), color=f"C{k}", alpha=0.12, lw=0)
    right.axhline(corridor.BEST, color="k", ls="--", lw=0.9)
    right.set(xlabel="episode", ylabel="P(right)", ylim=(0, 0.9), title="learning: median and 5 to 95 % of the runs")
    right.legend(frameon=False, fontsize=8, loc="upper left", ncols=2)
    figure.savefig(out / "exploration.png", dpi=150)


RATE = corridor.CURVES["REINFORCE, 2^-13"][1]

if __name__ == "__main__":
    main()

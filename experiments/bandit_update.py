"""What is one update on a bandit: by hand, by every outcome, by sampling? And is the value a good baseline for it?

    python experiments/bandit_update.py            # a minute
    python experiments/bandit_update.py --smoke    # a size for tests

The package's estimator and optimiser, in float64, make the updates that one makes by hand, to all 12 digits printed:
sigmoid policy, step 1, the arm that pays 1 drawn twice: P .5 -> .622459331202 -> .706312328148; Gibbs policy from
(0, 0), return 2, step .1: theta +-.1 and P .549833997312 at temperature 1, +-.2 and .689974481128 at 1/2.

Arms that pay 0 and 1, one log-odds parameter, p = P(the arm that pays): the gradient of one pull has mean p (1 - p)
and variance p (1 - p)^3; with the value as baseline the variance is p (1 - p)(1 - 2p)^2, which is less only below
p = 2/3; with b = 1 - p it is 0. So at theta = 0 variance .0625; at theta = 2 .0014918892 without a baseline and
.0608989735 with b = V; 2^20 pulls say .001488 +- .000003 and .06086 +- .00014. Arms .94/.96 at theta = 0: .237475
without, .01185 with b = V (sampled .23739 +- .00005 and .01179 +- .00005). That is per parameter: either preference
of the softmax policy has the same two, and the step of its log-odds, their difference, four times as much.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pgjax import envs, policies, rollout
from pgjax.advantages import exact_value, monte_carlo
from pgjax.config import Config
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind
from pgjax.losses import policy_gradient
from pgjax.optimizers import sgd
from pgjax.runs import folder
from pgjax.types import Algorithm, Batch, Running, Trajectory


def reinforce(advantage=None, rate=1.0):
    """Theta <- theta + rate (r - b) d log pi(a) / d theta (Williams 1992, eq. 11)."""
    advantage = bind(monte_carlo, discount=1.0) if advantage is None else advantage
    return Algorithm(advantage, surrogate(policy_gradient, reduce="episode"), bind(sgd, learning_rate=rate))


def pulls(policy, params, action, reward):
    """The episodes, [1, n], in which `action` [n] was drawn and `reward` [n] was paid."""
    action, reward = jnp.asarray(action)[None], jnp.asarray(reward, float)[None]
    zero, yes = jnp.zeros_like(action), jnp.ones_like(action, bool)
    log_prob = policy.act(params, (), zero)[0].log_prob(action)
    return Trajectory(zero, action, log_prob, reward, yes, ~yes, zero, jnp.ones_like(reward), zero, ())


def descent(policy, params, algorithm, trajectory):
    """The package's gradient of the loss from each of n pulls by itself: a tree like params, of [n, ...]."""

    def one(trajectory, params):
        trajectory = jax.tree.map(lambda x: x[:, None], trajectory)
        now, plug = policy.evaluate(params, trajectory), algorithm.advantage
        if isinstance(plug, Running):
            weight, target = plug.apply(plug.init(), trajectory, now)[1]
        else:
            weight, target = plug(trajectory, now)
        batch = Batch(trajectory, weight, target, now.value)
        return algorithm.estimator(jax.random.key(0), policy, params, batch)[0]

    return jax.jit(jax.vmap(one, in_axes=(1, None)))(trajectory, params)


def train_on(config, rate, drawn):
    """(preferences, P(first action drawn)) after an update on each (action, reward) of `drawn`."""
    policy, algorithm = policies.make(envs.make("BernoulliBandit-pgjax"), config), reinforce(rate=rate)
    params, transform, seen = policy.init(jax.random.key(0)), algorithm.optimizer(), []
    state = transform.init(params)
    for action, reward in drawn:
        found = descent(policy, params, algorithm, pulls(policy, params, [action], [reward]))
        updates, state = transform.update(jax.tree.map(lambda x: x[0], found), state, params)
        params = optax.apply_updates(params, updates)
        dist = policy.act(params, (), jnp.zeros(1, int))[0]
        seen.append((np.ravel(params["preference"]), float(jnp.exp(dist.log_probs())[0, drawn[0][0]])))
    return seen


def hand_worked():
    """Name -> (by the package's estimator and optimiser, in closed form), in float64.

    Sigmoid: d log pi(1) / d theta = 1 - p, so theta += rate r (1 - p). Gibbs, pi = softmax(theta / tau):
    d log pi(a) / d theta = (e_a - pi) / tau. From (0, 0) with return G that is theta = +-rate G / (2 tau), and
    P(a) = sigmoid((theta_a - theta_b) / tau) = sigmoid(rate G / tau^2).
    """
    found = {}
    with jax.enable_x64(True):
        (_, first), (_, second) = train_on(Config(network="sigmoid"), 1.0, [(1, 1.0), (1, 1.0)])
        found["sigmoid, P after 1 update"] = first, sigmoid(0.5)
        found["sigmoid, P after 2 updates"] = second, sigmoid(0.5 + (1 - sigmoid(0.5)))
        for tau in (1.0, 0.5):
            rate, g = 0.1, 2.0
            ((theta, p),) = train_on(Config(network="table", temperature=tau), rate, [(0, g)])
            found[f"Gibbs at tau {tau:g}, theta of the drawn"] = theta[0], rate * g / (2 * tau)
            found[f"Gibbs at tau {tau:g}, theta of the other"] = theta[1], -rate * g / (2 * tau)
            found[f"Gibbs at tau {tau:g}, P(drawn)"] = p, sigmoid(rate * g / tau**2)
    return found


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def at(chance, network, theta):
    """The bandit and the policy whose second action has the log-odds theta."""
    env = envs.make("BernoulliBandit-pgjax", probability=chance)
    policy = policies.make(env, Config(network=network))
    params = policy.init(jax.random.key(0))
    preference = [[-theta / 2, theta / 2]] if network == "table" else [theta]
    return env, policy, {**params, "preference": jnp.asarray(preference, float)}


def enumerated(chance, network, theta, algorithm):
    """Mean and variance of one pull's estimate, by its four outcomes, in float64; of the last preference."""
    with jax.enable_x64(True):
        _, policy, params = at(chance, network, theta)
        trajectory = pulls(policy, params, [0, 0, 1, 1], [0.0, 1.0, 0.0, 1.0])
        x = -np.asarray(descent(policy, params, algorithm, trajectory)["preference"]).reshape(4, -1)[:, -1]
        weight = np.ravel(np.exp(trajectory.log_prob)) * np.ravel([[1 - c, c] for c in chance])
    return {"mean": weight @ x, "variance": weight @ (x - weight @ x) ** 2}


def sampled(seed, chance, network, theta, algorithm, samples):
    """The same from `samples` pulls of the package's own world, each with its standard error."""
    env, policy, params = at(chance, network, theta)
    trajectory, _ = jax.jit(lambda key, params: rollout.episodes(key, env, policy, params, samples))(
        jax.random.key(seed), params
    )
    x = -np.asarray(descent(policy, params, algorithm, trajectory)["preference"], float).reshape(samples, -1)[:, -1]
    around = (x - x.mean()) ** 2
    return {name: (y.mean(), y.std() / samples**0.5) for name, y in (("mean", x), ("variance", around))}


def systems():
    """Name -> (chances, network, log-odds, algorithm)."""
    near, sure = (0.94, 0.96), (0.0, 1.0)
    value = lambda chance: reinforce(exact_value([chance]))  # noqa: E731
    return {
        "arms 0/1, sigmoid, theta 0": (sure, "sigmoid", 0.0, reinforce()),
        "arms 0/1, sigmoid, theta 2": (sure, "sigmoid", 2.0, reinforce()),
        "arms 0/1, sigmoid, theta 2, b = V": (sure, "sigmoid", 2.0, value(sure)),
        "arms 0/1, sigmoid, theta 2, b = 1 - p": (sure, "sigmoid", 2.0, reinforce(best(2.0))),
        "arms .94/.96, sigmoid, theta 0": (near, "sigmoid", 0.0, reinforce()),
        "arms .94/.96, sigmoid, theta 0, b = V": (near, "sigmoid", 0.0, value(near)),
        "arms .94/.96, softmax, theta 0": (near, "table", 0.0, reinforce()),
        "arms .94/.96, softmax, theta 0, b = V": (near, "table", 0.0, value(near)),
    }


def best(theta):
    """The baseline of least variance for arms 0/1: sum_a pi(a) score^2 r / sum_a pi(a) score^2 = 1 - p."""
    return bind(monte_carlo, discount=1.0, baseline="constant", constant=1 - sigmoid(theta))


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/bandit_update"))
    options = parser.parse_args(arguments)
    samples, points = (2**14, 3) if options.smoke else (2**20, 19)

    worked = hand_worked()
    print(f"{'':36s}{'package':>16s}{'closed form':>16s}")
    for name, pair in worked.items():
        print(f"{name:36s}" + "".join(f"{x:16.12f}" for x in pair))
    found = {}
    print(f"\n{'':49s}{'enumerated':>14s}{f'{samples} samples':>26s}{'z':>8s}")
    for seed, (name, system) in enumerate(systems().items()):
        exact, drawn = enumerated(*system), sampled(seed, *system, samples)
        found[name] = {what: {"exact": exact[what], "sampled": drawn[what]} for what in exact}
        for what, (x, se) in drawn.items():
            z = f"{(x - exact[what]) / se:8.1f}" if se > 1e-6 else f"{'-':>8s}"  # "-": no noise but rounding
            print(f"{name:39s}{what:10s}{exact[what]:14.10f}{x:13.8f} ± {se:.8f}{z}")

    sure, p = (0.0, 1.0), np.linspace(0.05, 0.95, points)
    thetas = np.log(p / (1 - p))
    curves = {
        "no baseline": lambda theta: reinforce(),
        "b = V = p": lambda theta: reinforce(exact_value([sure])),
        "b = 1 - p": lambda theta: reinforce(best(theta)),
    }
    curves = {k: [enumerated(sure, "sigmoid", x, f(x))["variance"] for x in thetas] for k, f in curves.items()}
    draw(options.out, p, curves, found)
    folder.write_json(options.out / "summary.json", {"hand_worked": worked, "one_sample": found, "samples": samples})
    return worked, found


def draw(out, p, curves, found):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    for label, values in curves.items():
        axes.plot(p, values, ".-", label=label)
    for name, theta in (("theta 0", 0.0), ("theta 2", 2.0), ("theta 2, b = V", 2.0)):
        x, se = found[f"arms 0/1, sigmoid, {name}"]["variance"]["sampled"]
        axes.errorbar(sigmoid(theta), x, 2 * se, fmt="kx", label="sampled" if name == "theta 0" else None)
    axes.axvline(2 / 3, color="0.6", lw=0.8)
    axes.text(0.675, 0.07, "p = 2/3", color="0.4")
    axes.set(xlabel="p = P(the arm that pays)", ylabel="variance of one update's gradient", title="arms 0/1, sigmoid")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "bandit_update.png", dpi=150)


if __name__ == "__main__":
    main()

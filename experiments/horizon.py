"""Total return over a horizon, an update after every episode: does the variance of the gradient predict the speed?

    python experiments/horizon.py            # a minute or two
    python experiments/horizon.py --smoke    # a size for tests

On the random MDP with horizon 10 and no discount the uniform policy has J 1.406, the best deterministic stationary
one 10.2699, the best with a clock 10.2930. With a time limit a stochastic one may be the best without a clock: where
one choice comes twice (`cash`) deterministic policies reach 1.2, p = .25 reaches 1.225, a clock 1.6. Here climbing the
exact gradient from 64 starts finds 10.2696 and nothing better. The variance of one episode's gradient is exact: for
the full return, reward-to-go, and reward-to-go minus a learned V(s), 89.5, 45.5 and 39.0 at the uniform policy, 233,
95 and 37 at J 8.95. At a small rate that hardly matters: at .005 they need 1308 +- 41, 1205 +- 23 and 1140 +- 11
episodes for 90 % of the way (128 seeds). It matters in how large a rate may be: each at its best takes 523 +- 66,
236 +- 47 and 115 +- 5, in ratios 4.5 and 2.1, between those of the variances at first (2.3, 1.2) and at most (7.0,
3.1). The same in what is missing after 2,048 episodes at one rate: 4.3 +- .5 and 1.9 +- .2 times at .02, 9.6 +- 1.6
and 4.1 +- .8 at .04: single seeds that stay behind make most of it, so 16 seeds can't tell full return from
reward-to-go there (an error of .27 in a difference of .53 after 512 episodes), and 256 can. The ratio of variances
tells the order and the size, no more; taken at the start alone it says too little.
"""

import argparse
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pgjax import envs, hyperparameters, oracle, policies
from pgjax.advantages import monte_carlo
from pgjax.advantages.baselines import Fitted
from pgjax.algorithms import on_policy
from pgjax.config import Config
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind
from pgjax.losses import actor_critic, policy_gradient
from pgjax.optimizers import sgd
from pgjax.training import vectorised
from pgjax.types import Algorithm
from pgjax.variance import ESTIMATORS
from pgjax.variance.measurement import exact

CRITIC = 0.05  # step of the learned table for each visit of a state, whatever the policy's
GOAL = 0.9  # of the way from the uniform policy's J to the best stationary one's

# Name -> (the learner's weights, the laboratory's row of the same estimate).
CASES = {
    "full return": (bind(monte_carlo, discount=1.0, reward_to_go=False), "full"),
    "reward-to-go": (bind(monte_carlo, discount=1.0), "to_go"),
    "reward-to-go - learned V(s)": (bind(monte_carlo, discount=1.0, baseline="value"), "value"),
}
EXACT_V = "reward-to-go - exact V_t(s)"  # of which no learner knows; for the variance alone


def cash():
    """One decision, twice: action 1 takes 1 and ends, action 0 takes .6 and leaves the choice for the last step.

    J(p) = 1.2 + .2 p - .4 p^2, p = pi(1): the best stationary policy is p = .25, which is no deterministic one.
    """
    transition = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    reward, start = np.array([[0.6, 1.0], [0.0, 0.0]]), np.array([1.0, 0.0])
    return envs.make("TabularMDP-pgjax", transition=transition, reward=reward, start=start, horizon=2)


def total(mdp, pi):
    """J, the expected total return of pi [S, A]; traceable."""
    v = jnp.zeros(len(pi))
    for _ in range(mdp.horizon):
        v = jnp.sum(pi * (jnp.asarray(mdp.reward) + jnp.asarray(mdp.transition) @ v), axis=1)
    return jnp.asarray(mdp.start) @ v


def optima(mdp, starts=64, steps=3000):
    """The best J of a policy that may look at the clock, of a deterministic stationary one, and of a stationary one.

    The first by dynamic programming, the second by enumeration. With a time limit the third may be stochastic: the
    best that Adam along the exact gradient reaches from many random starts, or the second if that is better.
    """
    states, actions = mdp.reward.shape
    v = np.zeros(states)
    for _ in range(mdp.horizon):
        v = np.max(mdp.reward + mdp.transition @ v, axis=1)
    tables = [np.eye(actions)[list(choice)] for choice in itertools.product(range(actions), repeat=states)]
    deterministic = max(float(oracle.values(mdp, pi).objective) for pi in tables)
    transform = optax.adam(0.05)
    worth = lambda theta: total(mdp, jax.nn.softmax(theta))  # noqa: E731

    @jax.jit
    def climb(theta):
        def step(carry, _):
            theta, state = carry
            updates, state = transform.update(jax.grad(lambda x: -jnp.sum(jax.vmap(worth)(x)))(theta), state)
            return (theta + updates, state), None

        return jax.lax.scan(step, (theta, transform.init(theta)), length=steps)[0][0]

    theta = np.asarray(climb(2 * jax.random.normal(jax.random.key(1), (starts, states, actions))), np.float64)
    pi = np.exp(theta - theta.max(-1, keepdims=True))
    pi = pi / pi.sum(-1, keepdims=True)
    found = [float(oracle.values(mdp, one).objective) for one in pi]
    return {"clock": float(mdp.start @ v), "deterministic": deterministic, "climbed": max(found)}


def curves(env, mdp, weights, rates, seeds, episodes, points):
    """Exact J [points + 1, H, S] along training by an update after each episode; H rates x S seeds are lanes."""
    config = Config(num_envs=1, num_steps=0, rollout="episodes")
    algorithm = Algorithm(weights, surrogate(actor_critic(policy_gradient), reduce="episode"), sgd)
    learns = on_policy.make_learner(env, policies.make(env), algorithm, config)
    settings = [
        hyperparameters.default_hypers(algorithm, optimizer={"learning_rate": r}, estimator={"value_coef": CRITIC / r})
        for r in rates
    ]
    keys, hypers = vectorised.lanes(settings, list(range(seeds)))
    objective = jax.jit(jax.vmap(lambda state: total(mdp, jax.nn.softmax(state.learner.params["preference"]))))
    segment = jax.jit(lambda keys, states, hypers: vectorised.segment(keys, learns, states, hypers, episodes // points))
    states = jax.jit(lambda keys, hypers: vectorised.init(keys, learns, hypers))(keys, hypers)
    found = [objective(states)]
    for _ in range(points):
        states, _ = segment(keys, states, hypers)
        found.append(objective(states))
    assert bool(jnp.all(states.finite)), "a lane left the range of the numbers"
    return np.asarray(found, np.float64).reshape(points + 1, len(rates), seeds)


def variances(env, mdp, times):
    """(J [N], row -> trace of the covariance of one episode's gradient [N]), exactly, along dJ's own path.

    theta follows dtheta / dt = dJ / dtheta from the uniform policy, the way of every learner at small rates. The
    critic's table is what it would learn: V_t(s) averaged over the visits of s.
    """
    policy, dt = policies.make(env), 0.01
    flow = jax.jit(
        lambda theta, n: jax.lax.fori_loop(
            0, n, lambda _, x: x + dt * jax.grad(lambda y: total(mdp, jax.nn.softmax(y)))(x), theta
        )
    )
    theta, objective = jnp.zeros(mdp.reward.shape), []
    traces = {row: [] for row in (*(row for _, row in CASES.values()), "exact_value")}
    for before, now in zip((0.0, *times), times, strict=False):
        theta = flow(theta, round((now - before) / dt))
        params = {"preference": theta, "value": jnp.zeros(len(mdp.start))}
        pi = oracle.probabilities(policy, params, len(mdp.start))
        seen = oracle.values(mdp, pi)
        visits = seen.occupancy.sum(axis=0)
        value = (seen.occupancy * seen.value[:-1]).sum(axis=0) / np.where(visits > 0, visits, 1.0)
        scores = oracle.scores(policy, params, len(mdp.start))[..., : theta.size]
        world = exact.World(mdp, pi, pi, value, scores)
        objective.append(float(seen.objective))
        for row, found in traces.items():
            found.append(float(exact.moments(ESTIMATORS[row], world, Fitted.none()).trace))
    return np.array(objective), {row: np.array(found) for row, found in traces.items()}


def episodes_to(goal, curve, every):
    """Episodes until the mean over seeds of J [N, S] first reaches the goal, between checkpoints; inf if never."""
    mean = curve.mean(axis=1)
    above = np.flatnonzero(mean >= goal)
    if not len(above):
        return np.inf
    k = above[0]
    return every * (k if k == 0 else k - 1 + (goal - mean[k - 1]) / (mean[k] - mean[k - 1]))


def with_error(function, curve, draws=200):
    """function(curve [N, S]) and its standard error, by the bootstrap over seeds."""
    g, seeds = np.random.default_rng(0), curve.shape[1]
    found = [function(curve[:, g.integers(seeds, size=seeds)]) for _ in range(draws)]
    return function(curve), float(np.std(found)) if np.isfinite(found).all() else np.nan


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/horizon"))
    options = parser.parse_args(arguments)
    rates, seeds = ((0.02, 0.04), 256) if options.smoke else ((0.005, 0.01, 0.02, 0.04, 0.08, 0.16), 128)
    episodes, points = (512, 16) if options.smoke else (2048, 64)
    times = np.concatenate([[0.0], 2.0 ** np.arange(-2, 2 if options.smoke else 5)])

    best = {}
    for name, env in {"cash": cash(), "random MDP": envs.make("TabularMDP-pgjax")}.items():
        mdp = oracle.from_env(env, 1.0)
        best[name] = optima(mdp)
        shown = "   ".join(f"{key} {best[name][key]:.4f}" for key in ("clock", "deterministic", "climbed"))
        print(f"best J, {name}: {shown}")
    objective, traces = variances(env, mdp, times)
    print("\nexact variance of one episode's gradient, where J is " + "  ".join(f"{j:7.3f}" for j in objective))
    for label, row in (*((label, row) for label, (_, row) in CASES.items()), (EXACT_V, "exact_value")):
        print(f"{label:50s} " + "  ".join(f"{x:7.2f}" for x in traces[row]))

    top = max(best["random MDP"]["deterministic"], best["random MDP"]["climbed"])
    goal, found = objective[0] + GOAL * (top - objective[0]), {}
    print(f"\nJ after {episodes} episodes, and episodes until the mean over {seeds} seeds is {goal:.2f}")
    for name, (weights, _) in CASES.items():
        path = curves(env, mdp, weights, rates, seeds, episodes, points)
        ends = [with_error(lambda x: x[-1].mean(), path[:, h]) for h in range(len(rates))]
        needs = [with_error(lambda x: episodes_to(goal, x, episodes / points), path[:, h]) for h in range(len(rates))]
        found[name] = {"J": path, "end": ends, "episodes": needs}
        for rate, end, need in zip(rates, ends, needs, strict=True):
            share = (end[0] - objective[0]) / (top - objective[0])
            took = f"{need[0]:6.0f}" + (f" ± {need[1]:.0f}" if np.isfinite(need[1]) else "")  # inf: never
            print(f"{name:28s} rate {rate:5.3f}   {end[0]:8.4f} ± {end[1]:.4f}   {share:7.2%} of the way   {took}")
    compare(found, traces, top, rates)
    draw(options.out, found, objective, traces, best["random MDP"], rates, goal, episodes)
    return {"best": best, "objective": objective, "traces": traces, "goal": goal, "found": found}


def missing_ratio(top, one, other):
    """(top - J) / (top - J'), each J with its standard error, as 'ratio ± error'."""
    (a, b), errors = (top - one[0], top - other[0]), (one[1], other[1])
    return f"{a / b:.1f} ± {a / b * np.hypot(errors[0] / a, errors[1] / b):.1f}"


def compare(found, traces, top, rates):
    """Each against the last, the one of least variance: variances, speeds, and what is missing in the end."""
    *_, last = CASES
    fastest = lambda name: min(x for x, _ in found[name]["episodes"])  # noqa: E731
    print(f"\nas multiples of '{last}'")
    for name, (_, row) in CASES.items():
        ratio = traces[row] / traces[CASES[last][1]]
        ends = zip(rates, found[name]["end"], found[last]["end"], strict=True)
        shown = "  ".join(f"{rate:g}: {missing_ratio(top, a, b)}" for rate, a, b in ends if name != last)
        print(f"{name:28s} variance {ratio[0]:.2f} at first, {ratio.max():.2f} at most;", end=" ")
        print(f"episodes, each at its best rate: {fastest(name) / fastest(last):.2f}; J missing, by rate: {shown}")


def draw(out, found, objective, traces, best, rates, goal, episodes):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for k, (name, one) in enumerate(found.items()):
        h = int(np.argmin([x for x, _ in one["episodes"]]))
        path, x = one["J"][:, h], np.linspace(0, episodes, len(one["J"]))
        path, x = path[1:], x[1:]  # a logarithm has no 0
        left.plot(x, path.mean(axis=1), color=f"C{k}", label=f"{name}, rate {rates[h]:g}")
        left.fill_between(x, *np.quantile(path, [0.1, 0.9], axis=1), color=f"C{k}", alpha=0.18, lw=0)
        middle.plot(objective, traces[CASES[name][1]], "o-", ms=4, color=f"C{k}", label=name)
        needs, errors = np.array(one["episodes"]).T
        right.errorbar(rates, needs, 2 * np.nan_to_num(errors), fmt="o-", ms=4, capsize=2, color=f"C{k}", label=name)
    middle.plot(objective, traces["exact_value"], "o--", ms=4, color="C3", label=EXACT_V)
    left.axhline(best["clock"], color="0.2", ls=":", lw=1, label="best policy with a clock")
    stationary = max(best["deterministic"], best["climbed"])
    left.axhline(stationary, color="0.2", lw=1, label="best stationary policy")
    left.set(xlabel="episodes", xscale="log", ylabel="exact J", title="mean and 10 to 90 % of the seeds")
    middle.set(
        xlabel="J along the exact gradient's path", yscale="log", title="variance of one episode's gradient, exact"
    )
    right.set(xlabel="learning rate", xscale="log", yscale="log", title=f"episodes until the mean is {goal:.2f}")
    left.legend(frameon=False, fontsize=8, loc="lower right")
    middle.legend(frameon=False, fontsize=8)
    for axes in (left, middle, right):
        axes.grid(alpha=0.25)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "horizon.png", dpi=150)


if __name__ == "__main__":
    main()

"""Rock, paper, scissors by policy gradient against oneself: where does it go, and against whom does it stay?

    python experiments/games.py            # a minute
    python experiments/games.py --smoke    # a size for tests

Self-play by exact gradients, two players stepping at once: a small deviation grows by sqrt(1 + step^2 / 27) each step
(1.018350154 at step 1, to 9 digits). The spiral never stops: where both start alike the flow keeps sum_a exp(-theta_a),
which is convex, so that every finite step raises it. After 10^5 steps exploitability is .957 at step .1, .998 at 1.
The average over time comes back slowly: .0356, .0206, .0096 after 10^3, 10^4, 10^5 steps of 1, while the turns go
9, 19, 37: near the border each tenfold of steps doubles the turns and halves the exploitability of the average. By
sampling (step .1, 10,000 updates from uniform) noise drives it outward too: mean exploitability .910 +- .003 with one
game an update and .590 +- .015 with 64, with which half of the players go round 11 times or more, either way: the
sum of two players' deviations turns one way, the difference the other.

Against a best responder a policy stays in a band around uniform. To first order a step takes 2 step / 9 off what that
answer wins and adds step / 9 to both others, so that the three take turns: their mean is step / 9 wherever one starts,
the largest at most twice that. Over 32 starts: mean .9998, 1.0051, 1.0544 of step / 9 at steps .03, .1, 1, the
largest 2.00, 2.01, 2.07. The exploitability of the average over time is less than half of step / 9.
"""

import argparse
import functools
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from pgjax import envs, hyperparameters, policies
from pgjax.advantages import monte_carlo
from pgjax.algorithms import on_policy
from pgjax.config import Config
from pgjax.envs.textbook import PAYOFF
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind
from pgjax.losses import policy_gradient
from pgjax.optimizers import sgd
from pgjax.runs import folder, record
from pgjax.types import Algorithm

STEPS = (0.1, 0.3, 1.0, 3.0)
BAND_STEPS = (0.01, 0.03, 0.1, 0.3, 1.0)
softmax = functools.partial(scipy.special.softmax, axis=-1)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FIRST, SECOND = (0.1, 0.0, -0.1), (0.0, 0.1, -0.1)  # preferences to start from


def exploitability(p):
    """What a best response wins against p [..., 3]: max_a sum_b payoff[a, b] p_b; 0 for uniform, 1 for pure play."""
    return (p @ np.asarray(PAYOFF, p.dtype).T).max(axis=-1)


def value(theta, q):
    """What softmax(theta) wins against q, exactly."""
    return jax.nn.softmax(theta) @ PAYOFF.astype(float) @ q


def self_play(first, second, alpha, steps):
    """Preferences [steps + 1, 2, 3] of two players that step at once, each along its own exact gradient; float64."""

    def step(both, _):
        theta, phi = both
        slopes = jax.grad(value)(theta, jax.nn.softmax(phi)), jax.grad(value)(phi, jax.nn.softmax(theta))
        return both + alpha * jnp.stack(slopes), both

    return iterate(step, (first, second), steps)


def against_best_response(first, alpha, steps):
    """Preferences [steps + 1, n, 3] of n players [n, 3], each with an opponent that answers best at every step."""

    def one(theta):
        answer = jnp.argmax(PAYOFF.astype(float) @ jax.nn.softmax(theta))
        return theta + alpha * jax.grad(value)(theta, jax.nn.one_hot(answer, 3))

    return iterate(lambda theta, _: (jax.vmap(one)(theta), theta), first, steps)


def iterate(step, start, steps):
    with jax.enable_x64(True):
        last, seen = jax.jit(lambda x: jax.lax.scan(step, x, length=steps))(jnp.asarray(start, float))
        return np.concatenate([seen, last[None]])


def growth(alpha, steps=20, deviation=1e-6):
    """The factor by which one step of self-play lengthens a small deviation from uniform, measured over `steps`."""
    path = self_play(*(deviation * np.array([FIRST, SECOND])), alpha, steps)
    length = np.linalg.norm(path - path.mean(axis=-1, keepdims=True), axis=(1, 2))
    return (length[-1] / length[0]) ** (1 / steps)


def running_mean(p):
    """The mean of p [T, ...] over all times so far."""
    return np.cumsum(p, axis=0) / np.arange(1, len(p) + 1).reshape(-1, *(1,) * (p.ndim - 1))


def turns(p):
    """How often the path p [T, ..., 3] went round uniform; rock, paper, scissors, rock is +1."""
    return np.unwrap(np.angle(p @ np.exp(2j * np.pi * np.arange(3) / 3)), axis=0) / (2 * np.pi)


def sampled(alpha, rounds, seeds, updates, every):
    """Probabilities [look, seed, 2, 3] of two of the package's learners that play each other.

    An update plays `rounds` rounds for each of them, the other's probabilities being its world's parameters.
    """
    env = envs.make("RockPaperScissors-pgjax")
    reinforce = surrogate(policy_gradient, reduce="episode")
    algorithm = Algorithm(bind(monte_carlo, discount=1.0), reinforce, bind(sgd, learning_rate=alpha))
    policy = policies.make(env)
    learn = on_policy.make_learner(env, policy, algorithm, Config(num_envs=rounds, num_steps=1, rollout="episodes"))
    hypers = hyperparameters.default_hypers(algorithm)

    def plays(state):
        return jax.nn.softmax(state.params["preference"][0])

    def step(key, states):
        worlds = [hypers._replace(env={"opponent": plays(state)}) for state in reversed(states)]
        parts = zip(jax.random.split(key), states, worlds, strict=True)
        return [learn.step(*part)[0] for part in parts]

    def run(seed):
        key_init, key_play = jax.random.split(jax.random.key(seed))
        states = [learn.init(key_init, hypers) for _ in range(2)]

        def look(states, u):
            keys = jax.vmap(lambda k: jax.random.fold_in(key_play, k))(u * every + jnp.arange(every))
            states, _ = jax.lax.scan(lambda states, key: (step(key, states), None), states, keys)
            return states, jnp.stack([plays(state) for state in states])

        return jax.lax.scan(look, states, jnp.arange(updates // every))[1]

    found = jax.jit(jax.vmap(run, out_axes=1))(jnp.arange(seeds))
    return np.concatenate([np.full_like(found[:1], 1 / 3), found])


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/games"))
    options = parser.parse_args(arguments)
    long, steps, players = (10**3, 2000, 4) if options.smoke else (10**5, 20000, 32)
    sizes, updates, every = ({1: 50, 16: 10}, 400, 10) if options.smoke else ({1: 1000, 64: 100}, 10000, 10)

    began, summary = time.perf_counter(), {"growth": {}, "self_play": {}, "best_response": {}, "sampled": {}}
    print("self-play, exact gradients: growth of a small deviation in one step")
    for alpha in STEPS:
        summary["growth"][alpha] = found = {"measured": growth(alpha), "exact": (1 + alpha**2 / 27) ** 0.5}
        print(f"  step {alpha:4g}: {found['measured']:.9f}   sqrt(1 + step^2 / 27) = {found['exact']:.9f}")

    print("\nself-play, exact gradients: exploitability now | of the average over time")
    times, selves = [10**k for k in range(2, 6) if 10**k <= long], {}
    for alpha in STEPS:
        for name, second in (("alike", FIRST), ("apart", SECOND)):
            p = softmax(self_play(FIRST, second, alpha, long)[:, 0])
            now, average = exploitability(p), exploitability(running_mean(p))
            rows = {t: (now[t], average[t], turns(p)[t]) for t in times}
            selves[alpha, name], summary["self_play"][f"{alpha:g}, {name}"] = p, rows
            cells = [f"{t}: {a:.4f} | {b:.4f}, turns {c:5.1f}" for t, (a, b, c) in rows.items()]
            print(f"  step {alpha:3g}, starts {name}:  " + "   ".join(cells))

    print(f"\nagainst a best responder: exploitability in the second half, {players} players, in units of step / 9")
    bands, starts = {}, np.concatenate([[[1, 0, -1]], np.random.default_rng(0).normal(size=(players - 1, 3))])
    for alpha in BAND_STEPS:
        bands[alpha] = p = softmax(against_best_response(starts, alpha, steps))
        late = exploitability(p)[steps // 2 :] / (alpha / 9)
        row = {"mean": late.mean(), "se": late.mean(axis=0).std() / players**0.5, "min": late.min(), "max": late.max()}
        row["average"] = np.median(exploitability(p[steps // 2 :].mean(axis=0))) / (alpha / 9)
        summary["best_response"][alpha] = row
        print(f"  step {alpha:4g}: mean {row['mean']:.4f} ± {row['se']:.4f}, from {row['min']:.4f} to", end=" ")
        print(f"{row['max']:.4f}; of the average over time {row['average']:.4f}")

    plays = {}
    for rounds, seeds in sizes.items():
        start = time.perf_counter()
        plays[rounds] = p = sampled(0.1, rounds, seeds, updates, every)
        print(
            f"\nself-play by the learner, step .1, games an update: {rounds}; {seeds} pairs, {updates} updates", end=""
        )
        print(f", {time.perf_counter() - start:.1f} s\nupdates   exploitability: mean; 5, 25, 50,", end=" ")
        print("75, 95 % of players below   of the average over time: median   turns either way: the same quantiles")
        summary["sampled"][rounds] = rows = {}
        for t in [t for t in (100, 1000, 10000) if t <= updates]:
            now, average = exploitability(p[t // every]), exploitability(p[: t // every + 1].mean(axis=0))
            way = np.abs(turns(p[1 : t // every + 1].astype(float))[-1])
            rows[t] = {"exploitability": now, "average": average, "turns": way}
            rows[t] = {name: np.quantile(x, QUANTILES) for name, x in rows[t].items()}
            rows[t]["mean"] = now.mean(), now.mean(axis=1).std() / seeds**0.5  # the two of a pair aren't independent
            print(f"{t:7d}   {rows[t]['mean'][0]:.3f} ± {rows[t]['mean'][1]:.3f}", end="  ")
            print(rows[t]["exploitability"].round(3), f"  {rows[t]['average'][2]:.3f}  ", rows[t]["turns"].round(2))
    draw(options.out, selves, bands, plays, every)
    summary |= {"seeds": sizes, "updates": updates, "seconds": time.perf_counter() - began}
    folder.write_json(options.out / "summary.json", {**record.machine(), **summary})
    return summary


def simplex(axes, p, title, **style):
    """A path of probabilities [T, 3] in the triangle of rock, paper and scissors."""
    corners = np.array([[0, 0], [1, 0], [0.5, 0.75**0.5]])
    axes.fill(*corners.T, fc="none", ec="0.5", lw=0.8)
    axes.plot(*(p @ corners).T, **style)
    axes.plot(*(corners.mean(axis=0)), "k+", ms=9)
    for corner, name, where in zip(corners, ("rock", "paper", "scissors"), ("top", "top", "bottom"), strict=True):
        axes.text(*corner, name, ha="center", va=where, fontsize=8)
    axes.set(title=title, aspect="equal")
    axes.set_axis_off()


def draw(out, selves, bands, plays, every):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 7), layout="constrained")
    (spiral, chase, noisy), (now, band, fan) = figure.subplots(2, 3)
    simplex(spiral, selves[1.0, "alike"][:2000], "self-play, exact gradients, step 1", lw=0.8)
    for k, alpha in enumerate((0.3, 0.1)):
        style = {"lw": 0.8, "color": f"C{k}", "label": f"step {alpha:g}"}
        simplex(chase, bands[alpha][: int(20 / alpha), 0], "against a best responder", **style)
    for k, (rounds, p) in enumerate(plays.items()):
        style = {"lw": 0.6, "color": f"C{k}", "label": f"games an update: {rounds}"}
        simplex(noisy, p[:, 0, 0], "self-play by sampling, step .1", **style)
    for axes in (chase, noisy):
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(-0.05, 1))
    for k, alpha in enumerate((0.1, 1.0)):
        p = selves[alpha, "alike"]
        x = np.unique(np.geomspace(1, len(p) - 1, 2000).astype(int))
        now.plot(x, exploitability(p)[x], color=f"C{k}", lw=0.8, label=f"step {alpha:g}")
        now.plot(x, exploitability(running_mean(p))[x], color=f"C{k}", ls="--", label="its average over time")
    now.set(xscale="log", yscale="log", xlabel="steps", ylabel="exploitability", ylim=(1e-4, 1.5))
    late = {alpha: exploitability(p[len(p) // 2 :]) / (alpha / 9) for alpha, p in bands.items()}
    least, mean, most = ([f(x) for x in late.values()] for f in (np.min, np.mean, np.max))
    names = [f"{alpha:g}" for alpha in late]
    band.bar(names, np.subtract(most, least), bottom=least, alpha=0.3, width=0.5, label="least to largest")
    band.plot(names, mean, "C0o", label="mean")
    band.axhline(1, color="0.4", lw=0.8)
    band.set(xlabel="step", ylabel="exploitability / (step / 9), in the band", ylim=(0, 2.5))
    for k, (rounds, p) in enumerate(plays.items()):
        x, y = np.arange(len(p)) * every, exploitability(p).reshape(len(p), -1)
        low, middle, high = np.quantile(y, (0.05, 0.5, 0.95), axis=1)
        fan.fill_between(x, low, high, alpha=0.2, lw=0, color=f"C{k}")
        fan.plot(x, middle, color=f"C{k}", label=f"games an update: {rounds}")
    fan.set(xlabel="updates", ylabel="exploitability; median, 5 to 95 %", ylim=(0, 1.02))
    for axes in (now, band, fan):
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "games.png", dpi=150)


if __name__ == "__main__":
    main()

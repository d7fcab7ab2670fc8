"""GRPO divides an advantage by its group's spread and a loss by the answer's length. Where does it point then?

    python experiments/grpo_bias.py            # 4 minutes on two cores
    python experiments/grpo_bias.py --smoke    # a size for tests

A transformer says one or two letters again, after up to 240 steps of supervision, or 60 that taught it silence: a
prompt's success p is between .01 and .99. Expectations are exact, by enumeration; the pipeline's means, of 65,536
answers each, agree: |z| of 3.0 at most in 250 a row. RLOO is unbiased, Dr. GRPO (K - 1) / K of it.
The spread multiplies a prompt's gradient by 1 at K = 2, whatever p is; at K = 8 by 1.86 at p = .5 and 2.6 at .0125
or .99; at K = 64 by 1.98, 6.5 and 6.7: rare successes and rare failures count more. With five prompts the direction
hardly turns: its cosine to dJ is .9996 or more at K = 8, .975 or more at 64. The length turns it, whatever K: at K = 8
to a cosine of .798 at worst. All right answers have two tokens, so what a prompt adds is, but for the spread's factor,
(grad p - p grad P(one token)) / 2: write more, be it right or not. A step gains 1.52 tokens for each unit of J there,
along dJ itself .16.
"""

import argparse
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax.flatten_util import ravel_pytree

from pgjax import advantages, envs, oracle, policies, rollout
from pgjax.algorithms import imitation
from pgjax.config import Config
from pgjax.envs.puzzles import Copying
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind
from pgjax.losses import policy_gradient
from pgjax.types import Batch

# (advantage, its options, the reduction): those of GRPO first, then without each of the two divisions, then without.
ROWS = {
    "GRPO": (advantages.group_relative, {"divide": True}, "episode_mean"),
    "GRPO, summed": (advantages.group_relative, {"divide": True}, "episode"),
    "Dr. GRPO": (advantages.group_relative, {"divide": False}, "episode"),
    "RLOO": (advantages.leave_one_out, {}, "episode"),
}
LESSON = 20  # gradient steps


class Known(NamedTuple):
    """What enumeration says of one policy; of X prompts, and of P parameters."""

    p: np.ndarray  # [X] the probability of a right answer
    length: np.ndarray  # [X] the mean length of an answer
    gradient: np.ndarray  # [P] dJ, J the mean of p
    each: np.ndarray  # [X, P] dp
    longer: np.ndarray  # [P] the gradient of the mean length
    means: dict  # (row, K) -> [X, P] the expectation of the row's gradient


def world():
    """The enumerable token world, its table, a small transformer, and that as a policy of the table's states."""
    copying = Copying()
    env = envs.from_gymnax(copying)
    policy = policies.make(env, Config(hidden=(16,), heads=2))
    mdp, obs = oracle.tabulate(copying)
    return env, policy, mdp, obs, oracle.observing(policy, obs)


def taught(env, policy, lessons):
    """Lessons -> parameters: shown the right answers in so many, or, where negative, to stop before any letter."""
    key_init, key_shown, key = jax.random.split(jax.random.key(0), 3)
    shown = imitation.demonstrations(key_shown, env, 512)
    first = jnp.arange(env.max_steps)[:, None] == 0
    silence = shown._replace(action=jnp.zeros_like(shown.action), mask=jnp.where(first, shown.mask, 0.0))
    lesson = jax.jit(lambda key, params, shown: imitation.imitate(key, policy, params, shown, LESSON))
    found = {0: policy.init(key_init)}
    for sign, episodes in ((1, shown), (-1, silence)):
        for n in range(max([0, *(sign * count for count in lessons)])):
            found[sign * (n + 1)] = lesson(jax.random.fold_in(key, n), found[sign * n], episodes)
    return {count: found[count] for count in sorted(lessons)}


def factor(p, samples):
    """What the gradient of one prompt's p is multiplied by: E[sqrt(q (1 - q))] / (p (1 - p)), K q ~ Binomial(K, p)."""
    q = np.arange(samples + 1) / samples
    weight = scipy.stats.binom.pmf(np.arange(samples + 1), samples, np.asarray(p)[..., None])
    return weight @ np.sqrt(q * (1 - q)) / (p * (1 - p))


def worth(name, p, samples):
    """E[A | r] of an answer for which r is 0 or 1, [2]: each of the K - 1 others is right with probability p."""
    r, others = np.arange(2)[:, None], np.arange(samples)
    q = (r + others) / samples
    if name == "RLOO":
        advantage = r - others / (samples - 1)
    else:
        spread = np.sqrt(q * (1 - q)) if ROWS[name][1]["divide"] else np.ones_like(q)
        advantage = (r - q) / np.where(spread > 0, spread, 1)  # equal rewards have an advantage of 0
    return advantage @ scipy.stats.binom.pmf(others, samples - 1, p)


def exactly(mdp, seen, params, sizes):
    """Known, by enumeration of every answer [N].

    A row's expected gradient is sum_y pi(y | x) E[A | r(y)] grad log pi(y | x), over |y| where the loss is a mean.
    """
    pi, scores = (f(seen, params, len(mdp.start)) for f in (oracle.probabilities, oracle.scores))
    answers, probability = oracle.trajectories(mdp, pi)
    prompts = np.arange(np.count_nonzero(mdp.start))
    of = (answers.obs[0] == prompts[:, None]) * probability / mdp.start[prompts, None]  # [X, N] pi(y | x)
    length, reward = answers.mask.sum(0), answers.reward.sum(0)
    score = np.einsum("tn,tnp->np", answers.mask, scores[answers.obs, answers.action])
    p, means = of @ reward, {}
    for name, (*_, reduce) in ROWS.items():
        scaled = score / length[:, None] if reduce == "episode_mean" else score
        for samples in sizes:
            expected = np.stack([worth(name, x, samples)[reward.astype(int)] for x in p])
            means[name, samples] = (of * expected) @ scaled
    gradient = np.asarray(ravel_pytree(oracle.gradient(mdp, seen, params)[1])[0], np.float64)
    return Known(p, of @ length, gradient, (of * reward) @ score, np.mean((of * length) @ score, axis=0), means)


def pipeline(env, policy, prompts, samples):
    """(keys [G], params, directions [D, P]) -> the prompts of G groups of K answers, and rows' gradients, [G, D]."""
    plugs = {name: (bind(f, samples=samples, **o), surrogate(policy_gradient, r)) for name, (f, o, r) in ROWS.items()}

    def group(key, params, directions):
        trajectory, _ = rollout.episodes(key, env, policy, params, samples, samples=samples)
        now, found = policy.evaluate(params, trajectory), {}
        for name, (advantage, estimator) in plugs.items():
            batch = Batch(trajectory, *advantage(trajectory, now), now.value)
            found[name] = -directions @ ravel_pytree(estimator(key, policy, params, batch)[0])[0]
        return jnp.argmax(jnp.all(prompts == trajectory.obs[0, :1], axis=1)), found

    return jax.jit(jax.vmap(group, (0, None, None)))


def spread(x):
    """The mean over the first axis and its standard error."""
    return np.mean(x, axis=0), np.std(x, axis=0, ddof=1) / np.sqrt(len(x))


def compare(measure, known, params, samples, episodes, seed):
    """Rows -> exact numbers, measured ones, and how far the measured mean is from what was expected, in its errors.

    The directions: that of dJ, that of what GRPO's expectation has besides, three random ones; and each prompt's own.
    """
    unit = known.gradient / np.linalg.norm(known.gradient)
    besides = known.means["GRPO", samples].mean(0)
    drawn = np.random.default_rng(0).normal(size=(3, len(unit)))
    tested = np.stack([x / np.linalg.norm(x) for x in (unit, besides - besides @ unit * unit, *drawn)])
    own = known.each / np.sum(known.each**2, axis=1, keepdims=True)  # along which an unbiased estimate is 1
    directions = jnp.asarray(np.concatenate([tested, own]), jnp.float32)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), samples), (8, episodes // (8 * samples)))
    parts = [measure(part, params, directions) for part in keys]  # one after another, to save memory
    prompt, found = jax.tree.map(lambda *x: np.concatenate(x).astype(np.float64), *parts)
    rows = {}
    for name in ROWS:
        expected, along = known.means[name, samples].mean(0), found[name][:, : len(tested)]
        value, se = spread(along)
        (a, b), r = value[:2], np.hypot(*value[:2])
        rows[name] = {
            "z": (value - tested @ expected) / se,
            "z of truth": ((value - tested @ known.gradient) / se)[:2],  # elsewhere there is hardly anything to see
            "exact": float(expected @ unit / np.linalg.norm(expected)),
            "size": float(np.linalg.norm(expected) / np.linalg.norm(known.gradient)),
            # In the plane of the first two directions, where GRPO's expectation lies; its error by linearisation.
            "cosine": (a / r, spread(along[:, :2] @ (b * b, -a * b) / r**3)[1]),
            "factors": np.array([spread(found[name][prompt == x, len(tested) + x]) for x in range(len(own))]),
            "expected factors": np.sum(known.means[name, samples] * own, axis=1),
            "longer": float(expected @ known.longer / (expected @ known.gradient)),
        }
    return rows


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/grpo_bias"))
    options = parser.parse_args(arguments)
    sizes = (2, 8) if options.smoke else (2, 4, 8, 16, 64)
    lessons = (1, 3) if options.smoke else (-3, -2, -1, 0, 1, 2, 3, 4, 6, 12)
    episodes = 16384 if options.smoke else 65536
    env, policy, mdp, obs, seen = world()
    prompts, found = jnp.asarray(obs[: np.count_nonzero(mdp.start)]), {}
    measures = {samples: pipeline(env, policy, prompts, samples) for samples in sizes}
    for count, params in taught(env, policy, lessons).items():
        known = exactly(mdp, seen, params, sizes)
        rows = {samples: compare(measures[samples], known, params, samples, episodes, count + 99) for samples in sizes}
        found[count] = {"p": known.p, "length": known.length, "rows": rows}
        show(count, found[count])
    summary(found)
    draw(options.out, found)
    return found


def show(count, point):
    print(f"\nafter {count} lessons: p of each prompt {np.round(point['p'], 3)}, length {np.round(point['length'], 2)}")
    print("   K  row            exact cosine   in GRPO's plane   |mean| / |dJ|  max |z|   z were it dJ    length by J")
    for samples, rows in point["rows"].items():
        for name, row in rows.items():
            (value, se), away = row["cosine"], "  ".join(f"{z:7.1f}" for z in row["z of truth"])
            cells = f"{row['exact']:13.4f}   {value:.4f} ± {se:.4f}{row['size']:16.3f}{np.abs(row['z']).max():9.2f}"
            print(f"{samples:4d}  {name:14s}{cells}  {away}{row['longer']:14.2f}", flush=True)


def summary(found):
    for name in ROWS:
        rows = [point["rows"][samples][name] for point in found.values() for samples in point["rows"]]
        z = np.concatenate([row["z"] for row in rows])
        factors = [(row["factors"][:, 0] - row["expected factors"]) / row["factors"][:, 1] for row in rows]
        off, least = max(np.abs(row["z of truth"]).max() for row in rows), min(row["exact"] for row in rows)
        print(f"{name:14s}|z| to its expectation {np.abs(z).max():.2f} at most in {len(z)}, mean square", end=" ")
        print(
            f"{np.mean(z**2):.2f}; prompt by prompt {np.abs(factors).max():.2f} in {np.size(factors)}; to dJ", end=" "
        )
        print(f"{off:.0f}; least exact cosine {least:.4f}")


def draw(out, found):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    grid = np.linspace(0.005, 0.995, 199)
    sizes = list(next(iter(found.values()))["rows"])
    for k, samples in enumerate(sizes):
        left.plot(grid, factor(grid, samples), color=f"C{k}", label=f"K = {samples}")
        p = np.concatenate([point["p"] for point in found.values()])
        y, e = np.concatenate([point["rows"][samples]["GRPO, summed"]["factors"] for point in found.values()]).T
        left.errorbar(p, y, 2 * e, fmt=".", ms=4, lw=0.8, color=f"C{k}")
    left.axhline(1, color="0.6", lw=0.8)
    left.set(yscale="log", ylim=(0.8, 15), xlabel="probability p of a right answer", ylabel="E[gradient] / grad p")
    left.legend(frameon=False, fontsize=8)
    x = [point["p"].mean() for point in found.values()]
    for k, name in enumerate(ROWS):
        rows = [point["rows"][8][name] for point in found.values()]
        style = {"color": f"C{k}", "lw": 4 if name == "Dr. GRPO" else 1.5, "alpha": 0.4 if name == "Dr. GRPO" else 1}
        middle.plot(x, [row["exact"] for row in rows], label=name, **style)
        right.plot(x, [row["longer"] for row in rows], **style)
    y, e = np.array([point["rows"][8]["GRPO"]["cosine"] for point in found.values()]).T
    middle.errorbar(x, y, 2 * e, fmt=".", ms=5, lw=0.8, color="C0")
    largest = [point["rows"][sizes[-1]]["GRPO, summed"]["exact"] for point in found.values()]
    middle.plot(x, largest, "--", color="C1", lw=1, label=f"GRPO, summed, K = {sizes[-1]}")
    middle.set(xlabel="J, the mean of p", ylabel="cosine to dJ")
    middle.legend(frameon=False, fontsize=7)
    right.set(xlabel="J, the mean of p", ylabel="tokens gained per unit of J gained")
    left.set_title("one prompt, divided by the spread", fontsize=10)
    middle.set_title("five prompts, K = 8", fontsize=10), right.set_title("a small step, K = 8", fontsize=10)
    figure.suptitle("lines: exact, by enumeration; points and two standard errors: the package's pipeline", fontsize=9)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "grpo_bias.png", dpi=150)


if __name__ == "__main__":
    main()

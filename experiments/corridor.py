"""Three states that look alike: why must a policy be stochastic, and how fast does REINFORCE learn how much so?

    python experiments/corridor.py                  # four minutes on 2 cores, seven on busy ones
    python experiments/corridor.py --per-episode    # one update for each episode, not for each of its steps
    python experiments/corridor.py --smoke          # a size for tests

J is -11.657 at best, where P(right) = 2 - sqrt(2); -82.1 and -44.2 for the two epsilon-greedy policies of epsilon =
.1; and without end for a policy that always does the same. 1,000 runs of 1,000 episodes from P(right) = .05 come to
an exact J of -11.773 +- .006 at 2^-12, -12.269 +- .012 at 2^-13, -14.646 +- .023 at 2^-14, and with a baseline -11.978
+- .020, after 100 episodes rather than 600. Every run beats both, but for 41, 7, 1 and 12 that diverged, all within 60
episodes: one long episode takes the policy to where no episode ends. They are left out, which flatters the others.
A float64 loop from the book's boxes has 41, 4, 0 and 9. With one update for each episode REINFORCE learns as fast and
not one of 3,000 runs diverges: step by step, the score is the new policy's and the actions are the old one's, which
feeds on itself. With the baseline it is 124 of 1,000 (the loop: 135): there 2^-6 times an episode's length, above 2,
makes the critic unstable.
A curve takes 52 s on quiet cores. Rollouts all of the full length give the same numbers in three times as long (125
runs: 19.2 s for 6.6).
"""

import argparse
import itertools
import pathlib
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import envs, hyperparameters, oracle, policies
from pgjax.advantages import monte_carlo
from pgjax.algorithms import on_policy
from pgjax.config import Config
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind, declare
from pgjax.losses import actor_critic, policy_gradient
from pgjax.optimizers import sgd
from pgjax.runs import folder, record
from pgjax.training import vectorised
from pgjax.types import Algorithm, Running

BEST = 2 - 2**0.5  # P(right) of the best policy
START = 0.05  # P(right) of the first, the worse epsilon-greedy policy of epsilon = .1
CURVES = {
    "REINFORCE, 2^-12": ("none", 2.0**-12),
    "REINFORCE, 2^-13": ("none", 2.0**-13),
    "REINFORCE, 2^-14": ("none", 2.0**-14),
    "with baseline, 2^-9, 2^-6": ("value", 2.0**-9),
}
CRITIC = 8.0  # the critic's step size over the policy's
CHECKPOINTS = (100, 200, 400, 700, 1000)
LADDER = (64, 128, 256, 512, 1000)  # lengths that a rollout may have; the last is the time limit
SEGMENT, BLOCK = 10, 125  # episodes, and runs, that share a length
MARGIN = 1.25  # the next length over the longest episode of the latest segment


def objective(p):
    """J = -(4 - 2 p) / (p (1 - p)) at p = P(right); -inf at 0 and 1, where no episode ends."""
    p = np.asarray(p, np.float64)
    with np.errstate(divide="ignore"):
        return -(4 - 2 * p) / (p * (1 - p))


def tables():
    """The corridor as an MDP without a time limit: three states and the end."""
    transition = np.zeros((4, 2, 4))
    for state, (left, right) in enumerate([(0, 1), (2, 0), (1, 3), (3, 3)]):
        transition[state, 0, left] = transition[state, 1, right] = 1
    return oracle.MDP(transition, -np.ones((4, 2)), np.eye(4)[0], np.arange(4) == 3, None, 1.0)


def starting_at(p, env):
    """The softmax table, its first P(right) = p."""
    policy = policies.make(env)
    preference = jnp.log(jnp.array([[1 - p, p]]))
    return policy._replace(init=lambda key: {**policy.init(key), "preference": preference})


def unfinished_is_nan(advantage):
    """The same; NaN for an episode that the clock cut off, which has no return in the book's sense.

    `train` undoes an update by NaN, and the run stands still from there on, flagged.
    """

    def apply(state, trajectory, now, **hypers):
        found = advantage.apply(state, trajectory, now, **hypers)
        cut = jnp.any(trajectory.truncated)
        return jax.tree.map(lambda x: jnp.where(cut, jnp.nan, x), found)

    return Running(advantage.init, declare(apply, advantage))


def book(baseline):
    """REINFORCE, or REINFORCE with baseline (Sutton & Barto 2018, boxes of sec. 13.3 and 13.4), discount 1."""
    advantage = unfinished_is_nan(bind(monte_carlo, discount=1.0, baseline=baseline))
    loss = policy_gradient
    if baseline == "value":
        loss = bind(actor_critic(policy_gradient), reevaluate=True, value_coef=CRITIC)
    return Algorithm(advantage, surrogate(loss, reduce="episode"), sgd)


def programs(algorithm, update="step", ladder=LADDER, start=START, epsilon=0.0):
    """(algorithm, for each length the learner and SEGMENT updates of it); compiled once for all step sizes.

    `split(key, n)` begins `split(key, m)` for every m > n, so an episode that ends within a length is the same
    episode at every greater one.
    """
    env = envs.make("ShortCorridor-pgjax", max_steps_in_episode=ladder[-1])
    policy, made = starting_at(start, env), []
    for length in ladder:
        config = Config(num_envs=1, num_steps=length, rollout="episodes", update=update, epsilon=epsilon)
        one = on_policy.make_learner(env, policy, algorithm, config)
        made.append((one, jax.jit(lambda keys, s, h, one=one: vectorised.segment(keys, one, s, h, SEGMENT))))
    return algorithm, dict(zip(ladder, made, strict=True))


class Curve(NamedTuple):
    returns: np.ndarray  # [L, U] of each episode; NaN from the one on that a run did not finish
    right: np.ndarray  # [L, U / SEGMENT] P(right) after each segment
    diverged: np.ndarray  # [L] the episode that a run did not finish, from 1; 0 where it finished all
    lengths: dict  # how many segments were run at each length
    seconds: float

    def kept(self):
        """Returns and P(right) of the runs that finished every episode; NaN where these are fewer than two."""
        rows = np.flatnonzero(self.diverged == 0)
        return [x[rows] if len(rows) > 1 else np.full((2, x.shape[1]), np.nan) for x in (self.returns, self.right)]


def learn(program, runs, episodes, **hypers):
    """A Curve of `runs` lanes, block by block; `hypers` as those of `hyperparameters.default_hypers`."""
    algorithm, made = program
    hypers = hyperparameters.default_hypers(algorithm, **hypers)
    ladder, started = list(made), time.perf_counter()
    returns, right, lengths = [], [], dict.fromkeys(ladder, 0)
    for first in range(0, runs, BLOCK):
        keys, lanes = vectorised.lanes([hypers], list(range(first, min(first + BLOCK, runs))))
        states, rung = vectorised.init(keys, made[ladder[-1]][0], lanes), len(ladder) - 1
        seen, chances = [], []
        for _ in range(0, episodes, SEGMENT):
            # A segment in which an episode was too long for its length never was: again, longer.
            for tried in itertools.count(rung):
                following, metrics = made[ladder[tried]][1](keys, states, lanes)
                lengths[ladder[tried]] += 1
                if ladder[tried] == ladder[-1] or not np.any(states.finite & ~following.finite):
                    break
            states = following
            seen.append(np.asarray(metrics["episode_return"]))
            chances.append(jax.nn.softmax(states.learner.params["preference"])[:, 0, 1])
            # Runs that stand still have NaN, and call for nothing.
            longest = np.nanmax(np.asarray(metrics["episode_length"]), initial=0.0)
            rung = next((k for k, length in enumerate(ladder) if length > MARGIN * longest), len(ladder) - 1)
        returns.append(np.concatenate(seen, axis=1))
        right.append(np.stack(chances, axis=1))
    returns = np.concatenate(returns)
    lost = np.isnan(returns)
    diverged = np.where(lost[:, -1], np.argmax(lost, axis=1) + 1, 0)
    return Curve(returns, np.concatenate(right), diverged, lengths, time.perf_counter() - started)


def epsilon_greedy(epsilon=0.1):
    """P(right) of the two policies that epsilon-greedy action values can be."""
    return epsilon / 2, 1 - epsilon / 2


def mean(x):
    x = np.asarray(x, np.float64)
    return {"mean": x.mean(), "se": x.std(ddof=1) / np.sqrt(len(x)), "median": np.median(x)}


def summarise(curve):
    kept, right = curve.kept()
    points, learned = [e for e in CHECKPOINTS if e <= kept.shape[1]], objective(right[:, -1])
    when = np.sort(curve.diverged[curve.diverged > 0])
    return {
        "runs": len(curve.returns),
        "diverged": len(when),
        "diverged_at_episode": when,
        "return_at_episode": {e: mean(kept[:, e - 1]) for e in points},
        "learned_objective": mean(learned),
        "learned_right": np.quantile(right[:, -1], [0.05, 0.5, 0.95]),
        "better_than_epsilon_greedy": np.mean(learned > max(objective(epsilon_greedy()))),
        "seconds": curve.seconds,
        "segments_of_length": curve.lengths,
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--per-episode", action="store_true", help="one update for each episode")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/corridor"))
    options = parser.parse_args(arguments)
    runs, episodes = (24, 100) if options.smoke else (options.runs, 1000)
    update = "batch" if options.per_episode else "step"
    ladder = LADDER[-2:] if options.smoke else LADDER

    print("P(right)            J, closed form    J, linear solve")
    known = {"best": BEST, "even": 0.5, **{f"epsilon-greedy, {p:g}": p for p in epsilon_greedy()}}
    for name, p in known.items():
        solved = oracle.values(tables(), np.tile([1 - p, p], (4, 1))).objective
        print(f"{name:20s}{objective(p):14.9f}     {solved:14.9f}")
    print(f"{'always left or right':20s}{objective(0.0):14}     no episode ends: the equations are singular")

    made = {baseline: programs(book(baseline), update, ladder) for baseline in ("none", "value")}
    curves, rows = {}, {}
    for name, (baseline, rate) in CURVES.items():
        curves[name] = learn(made[baseline], runs, episodes, optimizer={"learning_rate": rate})
        rows[name] = row = summarise(curves[name])
        shown = "  ".join(f"{e}: {x['mean']:.2f} ± {x['se']:.2f}" for e, x in row["return_at_episode"].items())
        final = row["learned_objective"]
        print(f"\n{name}: {row['diverged']} of {runs} runs diverged; {row['seconds']:.0f} s")
        print(f"  return at episode {shown}")
        print(f"  exact J of the learned policies {final['mean']:.3f} ± {final['se']:.3f};", end=" ")
        print(f"better than epsilon-greedy: {row['better_than_epsilon_greedy']:.3f} of the runs")
    options.out.mkdir(parents=True, exist_ok=True)
    exact = {name: {"right": p, "objective": objective(p)} for name, p in known.items()}
    settings = {"update": update, "start": START, "episodes": episodes, "time_limit": LADDER[-1], "lengths": ladder}
    found = {"settings": settings, "seeds": {"first": 0, "count": runs}, "exact": exact, "curves": rows}
    folder.write_json(options.out / "summary.json", {**found, **record.machine()})
    draw(options.out, curves, rows)
    return curves, rows


def draw(out, curves, rows):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    p = np.linspace(0.02, 0.985, 400)
    left.plot(p, objective(p), "k")
    left.plot(BEST, objective(BEST), "C2*", ms=12, label=f"best: P(right) = {BEST:.3f}, J = {objective(BEST):.3f}")
    for x in epsilon_greedy():
        left.plot(x, objective(x), "C3o", label=f"epsilon-greedy: P(right) = {x:g}, J = {objective(x):.1f}")
    left.plot([0, 1], [-108, -108], "C7v", ms=8, clip_on=False, label="always left, always right: J = -inf")
    left.set(xlabel="P(right)", ylabel="J, exact", xlim=(0, 1), ylim=(-108, 0), title="what a policy is worth")
    left.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 0.08))
    for k, (name, curve) in enumerate(curves.items()):
        kept, row = curve.kept()[0], rows[name]
        x, middle, error = np.arange(1, kept.shape[1] + 1), kept.mean(axis=0), kept.std(axis=0, ddof=1)
        error = 2 * error / np.sqrt(len(kept))
        label = f"{name}; {row['diverged']} of {row['runs']} diverged, left out"
        right.plot(x, middle, f"C{k}", lw=0.9, label=label)
        right.fill_between(x, middle - error, middle + error, color=f"C{k}", alpha=0.25, lw=0)
    right.axhline(objective(BEST), color="k", ls="--", lw=0.9)
    right.set(xlabel="episode", ylabel="return", ylim=(-95, -5), title="mean over runs, ± 2 standard errors")
    right.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(out / "corridor.png", dpi=150)


if __name__ == "__main__":
    main()

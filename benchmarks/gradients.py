"""Gradients per second of the estimator laboratory, as a ratio against the plain way.

    python benchmarks/gradients.py [--smoke]

The plain way is what one would write first: one `jax.grad` for each episode under `vmap`, one estimator after
another, each with its own forward pass, on the padded episodes that the rollout gives. Both sides get the same
episodes, return the same numbers (checked), and run in turn. Results: results/gradients.json.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from common import RESULTS, cpu, spread, write_json

import pgjax
from pgjax import envs, policies, rollout
from pgjax.advantages.baselines import Fitted
from pgjax.runs import record
from pgjax.variance import ESTIMATORS
from pgjax.variance.estimators.weights import critic, weights
from pgjax.variance.measurement import measure, scores
from pgjax.variance.measurement.stream import four
from pgjax.variance.measurement.truths import example

TEN = "full full_constant to_go constant time value optimal n_step lambda gae".split()
MORE = "full_optimal optimal_time v_trace no_gamma_t no_gamma_t_value no_gamma_t_gae".split()
MORE += "ratio ppo_clip ppo_kl is_trajectory is_decision".split()
DISCOUNT = jnp.float32(0.99)


def plain(row, policy, params, fitted, trajectory):
    """Gradients [C, P leaves] of one estimator, by one jax.grad for each episode."""

    def one(episode):
        episode = jax.tree.map(lambda x: x[:, None], episode)

        def objective(params):
            now = policy.evaluate(params, episode)
            weight = weights(row, episode, critic(row, episode, now, None), fitted, DISCOUNT)
            return jnp.sum(jax.lax.stop_gradient(weight) * now.log_prob)

        return jax.grad(objective)(params)

    return jax.vmap(one, in_axes=1)(trajectory)


def stage(env, policy, params, chunk, repeats, names):
    """Both ways on one chunk of episodes of this policy."""
    trajectory, done = jax.jit(lambda key: rollout.episodes(key, env, policy, params, chunk))(jax.random.key(1))
    where = scores.layout(policy, params, example(env, policy, params))
    rows = {name: ESTIMATORS[name] for name in names}
    fitted = Fitted.none()._replace(by_time=jnp.zeros(env.max_steps), optimal_time=jnp.zeros(env.max_steps))
    setup = measure.Setup(rows, env, policy, where, (1,), chunk, False)
    size = sum(where.sizes)
    inputs = measure.Inputs(
        params, params, DISCOUNT, {n: fitted for n in rows}, None, jnp.zeros((len(rows), size)), jnp.zeros(size), None
    )
    longest = int(done.episode_length.max())
    horizon = min(n for n in (four(env.max_steps / 16), four(env.max_steps / 4), env.max_steps) if n >= longest)
    cut = jax.tree.map(lambda x: x[:horizon], trajectory)
    together = jax.jit(lambda t: measure.gradients(setup, jax.random.key(0), inputs, t, ())[0])
    alone = {name: jax.jit(lambda t, row=row: plain(row, policy, params, fitted, t)) for name, row in rows.items()}

    def one_after_another(t):
        return {name: jax.block_until_ready(function(t)) for name, function in alone.items()}

    ways = {
        "pgjax": lambda: jax.block_until_ready(together(cut)),
        "plain": lambda: one_after_another(trajectory),
        "plain, cut to the same length": lambda: one_after_another(cut),
    }
    found = {name: way() for name, way in ways.items()}  # compiles
    for name in rows:
        theirs = where.vector(found["plain"][name], axes=1)
        np.testing.assert_allclose(found["pgjax"][name], theirs, rtol=2e-3, atol=2e-3 * float(jnp.abs(theirs).max()))
    seconds = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    gradients = chunk * len(rows)
    ours = seconds["pgjax"]
    ratios = {n: [t / o for t, o in zip(s, ours, strict=True)] for n, s in seconds.items() if n != "pgjax"}
    row = {
        "estimators": names,
        "mean_length": float(done.episode_length.mean()),
        "rows_of_the_array": env.max_steps,
        "rows_after_cutting": horizon,
        "gradients": gradients,
        "seconds": {name: spread(s) for name, s in seconds.items()},
        "gradients_per_second": {name: gradients / statistics.median(s) for name, s in seconds.items()},
        "ratio": {name: spread(r) for name, r in ratios.items()},
    }
    rate = row["gradients_per_second"]["pgjax"]
    print(f"{len(names)} estimators, episodes of {row['mean_length']:.0f} steps: {rate:.0f} gradients/s", end="")
    for name, ratio in row["ratio"].items():
        print(f"; {ratio['median']:.1f}x {name} ({ratio['min']:.1f} to {ratio['max']:.1f})", end="")
    print(flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="small, and nothing is written")
    options = parser.parse_args()
    chunk, repeats, budgets = (8, 1, (0,)) if options.smoke else (64, 9, (0, 20_000, 200_000))
    rows = []
    for steps in budgets:
        if steps:
            run = pgjax.run("ppo", "CartPole-v1", steps=steps, progress=False)
            env, policy, params = run.lane(seed=0)
        else:
            env = envs.make("CartPole-v1")
            policy = policies.make(env)
            params = policy.init(jax.random.key(0))
        for names in (TEN, TEN + MORE):
            rows.append({"trained_steps": steps, **stage(env, policy, params, chunk, repeats, names)})
    if not options.smoke:
        facts = {"network": "64x64 tanh", "episodes_of_a_chunk": chunk, "cpu": cpu()}
        write_json(RESULTS / "gradients.json", {**facts, **record.machine(), "stages": rows})


if __name__ == "__main__":
    main()

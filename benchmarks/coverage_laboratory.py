"""How often the laboratory's 95 % intervals cover the truth, and what its test of bias says of unbiased estimators.

    python benchmarks/coverage_laboratory.py

writes results/coverage_laboratory.md. Truths are exact: of TabularMDP-pgjax by its tables, and of the short corridor at
p = .5 and no discount the gradient by its closed form (Sutton & Barto 2018, example 13.1). The variance there is the
mean over all episodes that were drawn, hundreds of times as many as one measurement has. All are drawn by one compiled
program; each repeat is a part of them, and its numbers are the laboratory's own.
"""

import argparse
import datetime
import math
import pathlib
import sys
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np

from pgjax import envs, policies
from pgjax.advantages.baselines import Fitted
from pgjax.types import Trajectory
from pgjax.variance import checks
from pgjax.variance.findings import bias_and_variance, doubts
from pgjax.variance.measurement import exact, measure, scores, truths
from pgjax.variance.measurement.stream import Stream

FOLDS, CHUNK = 32, 2048
SEED = 5


def worlds() -> dict[str, tuple]:
    """Name -> (environment, policy, parameters, those that act, rows, discount)."""
    g = np.random.default_rng(0)
    env = envs.make("TabularMDP-pgjax")
    params = {"preference": jnp.asarray(g.normal(size=(5, 3)), jnp.float32), "value": jnp.zeros(5)}
    moved = jnp.asarray(g.normal(size=(5, 3)), jnp.float32)
    table, found = policies.make(env), {"tabular, on policy": (env, policies.make(env), params, params, ["to_go"], 0.9)}
    for scale in (0.5, 1.0, 1.5, 2.0):
        acting = {**params, "preference": params["preference"] + scale * moved}
        rows = ["is_trajectory", "is_decision"]
        found[f"tabular, off policy by {scale:g}"] = (env, table, params, acting, rows, 0.9)
    env = envs.make("ShortCorridor-pgjax")
    policy = policies.make(env)
    params = jax.tree.map(jnp.zeros_like, policy.init(jax.random.key(0)))
    return found | {"short corridor, on policy": (env, policy, params, params, ["full", "to_go"], 1.0)}


def episodes(world: tuple, count: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, Any]:
    """Name -> estimates [N, P] of single episodes, float32; their importance weights [N], lengths [N]; the setup."""
    env, policy, params, acting, rows, discount = world
    where = scores.layout(policy, params, truths.example(env, policy, params))
    setup = measure.Setup(checks.named_estimators(rows), env, policy, where, (1,), CHUNK, False)
    size, longest = sum(where.sizes), min(env.max_steps, 256)
    fitted = {name: Fitted.none() for name in rows}
    gamma, zero = jnp.float32(discount), jnp.zeros(size)
    inputs = measure.Inputs(params, acting, gamma, fitted, None, jnp.zeros((len(rows), size)), zero, None)

    @jax.jit
    def draw(key, inputs):
        key_sample, key_rest = jax.random.split(key)
        trajectory, _ = measure.sample(setup, key_sample, inputs.behaviour)
        cut: Trajectory = jax.tree.map(lambda x: x[:longest], trajectory._replace(memory=()))
        found, metrics = measure.gradients(setup, key_rest, inputs, cut._replace(memory=trajectory.memory), ())
        return found, metrics["ratio"], metrics["length"], jnp.sum(trajectory.mask, axis=0).max()

    parts = []
    for i in range(math.ceil(count / CHUNK)):
        found, ratio, length, last = jax.tree.map(np.asarray, draw(jax.random.fold_in(jax.random.key(SEED), i), inputs))
        if last > longest:
            raise RuntimeError(f"an episode of {last:.0f} steps is longer than the {longest} that are looked at")
        parts.append((found, ratio, length))
    merged = {name: np.concatenate([p[0][name] for p in parts]) for name in rows}
    return merged, np.concatenate([p[1] for p in parts]), np.concatenate([p[2] for p in parts]), setup


def moments(x: np.ndarray) -> dict[str, Any]:
    return {"count": len(x), "mean": x.mean(axis=0), "m2": ((x - x.mean(axis=0)) ** 2).sum(axis=0)}


def stream(setup: Any, found: dict[str, np.ndarray], ratio: np.ndarray, length: np.ndarray, target: np.ndarray):
    """One repeat's episodes as the laboratory's chunks would leave them: 32 folds."""
    count = len(ratio)
    off = {name: x.astype(np.float64) - target for name, x in found.items()}
    parameters = {name: {"value": moments(x)} for name, x in off.items()}
    by_fold = {name: x.reshape(FOLDS, count // FOLDS, -1) for name, x in off.items()}
    chunks = {name: x - x.mean(axis=1, keepdims=True) for name, x in by_fold.items()}
    scale = count / (count - FOLDS)
    squares = {n: np.stack([(x**2).sum(1), (chunks[n] ** 2).sum(2).ravel() * scale]) for n, x in off.items()}
    errors = np.stack([(x**2).mean(1).sum(1, keepdims=True) for x in by_fold.values()], axis=1)
    folds = np.stack([x.mean(axis=1) + target for x in by_fold.values()], axis=1)
    level = {
        name: moments(np.stack(values, axis=1))
        for name, values in {
            "error": [squares[n][0] for n in off],
            "cosine": [np.zeros(count) for _ in off],
            "ascends": [np.zeros(count) for _ in off],
        }.items()
    }
    lengths = length.reshape(FOLDS, -1).mean(axis=1)
    each = np.full(FOLDS, count / FOLDS)
    return Stream({1: level}, parameters, {}, folds, errors, lengths, each, count, squares, ratio)


def truth(world: tuple, setup: Any, found: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, float]]:
    """The gradient [P], and each row's trace."""
    env, policy, params, acting, _, discount = world
    mdp = checks.enumerable(env, policy, discount)
    if mdp is None:
        # dJ / d theta = 2 (p^2 - 4 p + 2) / (p (1 - p)) of a sigmoid of theta, here the preference for the right less
        # that for the left.
        p = 0.5
        slope = 2 * (p**2 - 4 * p + 2) / (p * (1 - p))
        gradient = np.array([-slope, slope])
        return gradient, {
            n: float(((x - gradient) ** 2).sum(axis=1, dtype=np.float64).mean()) for n, x in found.items()
        }
    gradient, _ = truths.exact_gradient(mdp, policy, params, setup.where)
    world = truths.world(mdp, env, policy, params, acting, setup.where)
    moments = {n: exact.moments(row, world, Fitted.none()) for n, row in setup.estimators.items()}
    return gradient, {n: float(m.trace) for n, m in moments.items()}


def cells(name: str, world: tuple, sizes: list[int], repeats: int) -> list[str]:
    found, ratio, length, setup = episodes(world, repeats * max(sizes))
    gradient, traces = truth(world, setup, found)
    on_policy, lines = world[2] is world[3], []
    for count in sizes:
        runs: dict[str, list] = {row: [] for row in found}
        for r in range(repeats):
            part = slice(r * count, (r + 1) * count)
            one = stream(setup, {n: x[part] for n, x in found.items()}, ratio[part], length[part], gradient)
            weighed = None if on_policy else doubts.weights(one.ratios)
            for k, (row, own) in enumerate(setup.estimators.items()):
                got = bias_and_variance.estimator(setup, one, k, row, gradient, None, on_policy)
                runs[row].append(got | doubts.of(row, own, one, weighed, math.nan))
        for row, got in runs.items():
            z = np.array([x["bias_z"] for x in got])
            known, spread = (np.array([q not in x["untrusted"] for x in got]) for q in ("bias_z", "trace"))
            value, se = (np.array([x["trace"][q] for x in got]) for q in ("value", "se"))
            low, high = np.array([x["trace"]["interval"] for x in got]).T
            before = np.abs(value - traces[row]) < 1.96 * se
            after = (low <= traces[row]) & (traces[row] <= high)
            cosine = np.array([np.abs(x["mean_cosine"]["value"] - 1) < 1.96 * x["mean_cosine"]["se"] for x in got])
            shares = [
                (z > 5).mean(),
                known.mean(),
                (known & (z > 5)).mean(),
                before.mean(),
                after.mean(),
                spread.mean(),
                (spread & ~after).mean(),
                cosine.mean(),
            ]
            k = np.median([x["pareto_k"] for x in got])
            width = np.median((high - low) / traces[row])
            facts = [name, row, str(count), f"{np.mean(z):.2f}", f"{np.std(z):.2f}", f"{k:.2f}"]
            lines.append("| " + " | ".join([*facts, *(f"{100 * x:.1f}" for x in shares), f"{width:.2f}"]) + " |")
            print(lines[-1], flush=True)
    return lines


COLUMNS = (
    "world",
    "row",
    "episodes",
    "mean z",
    "sd z",
    "median k",
    "z > 5",
    "test can be trusted",
    "trusted and z > 5",
    "trace ± 1.96 se covers",
    "trace's interval covers",
    "trace can be trusted",
    "trusted and not covered",
    "mean cosine ± 1.96 se covers 1",
    "width / trace",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=500)
    parser.add_argument("--sizes", default="256,1024", help="episodes of one measurement, multiples of 128")
    parser.add_argument("--only", default="", help="a part of the names of the worlds")
    options = parser.parse_args()
    sizes = [int(x) for x in options.sizes.split(",")]
    lines = []
    for name, world in worlds().items():
        if options.only in name:
            lines += cells(name, world, sizes, options.repeats)
    error = 100 * math.sqrt(0.95 * 0.05 / options.repeats)
    text = [
        "# Coverage of the laboratory's intervals",
        "",
        f"`python benchmarks/coverage_laboratory.py {' '.join(sys.argv[1:])}`".replace(" `", "`"),
        "",
        f"{options.repeats} repeats, seed {SEED}, {jax.devices()[0].device_kind}, jax {jax.__version__}, commit "
        f"{common.commit()}, {datetime.date.today()}. Shares in per cent; the binomial standard error at 95 % is "
        f"{error:.1f}. All rows are unbiased. The first interval of the trace is its value and 1.96 standard errors, "
        "the second the one that is reported. A number can be trusted where `untrusted` doesn't name it.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *lines,
    ]
    path = pathlib.Path(common.RESULTS) / "coverage_laboratory.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()

"""Fused towers against XLA on a GPU: seconds of one gradient of a 4-64-64-2 tanh tower, for every lane at once.

    python benchmarks/kernels.py [--interpret]

Every way computes the gradient to its lane's parameters of the same loss on the same rows, and all run in turn.
A ratio is XLA's seconds over the fused tower's, at the same precision of the products. Errors are of each way's
gradient against XLA's in float32, as norms, relative; the worst of all lanes and parameters. Without a GPU it exits
with 2; --interpret checks the program itself on any machine, at tiny sizes. Results: results/kernels.json.
"""

import argparse
import functools
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from common import RESULTS, cpu, spread, write_json

from pgjax.policies import kernels
from pgjax.runs import record

WIDTHS = (4, 64, 64, 2)
SIZES = ((2048, 128), (256, 128), (64, 8192), (1, 262_144))  # lanes, rows of each
EXACT = "xla, float32"
# name -> the tower, and the way that it is to be compared with
WAYS = {
    EXACT: (functools.partial(kernels.plain, precision="highest"), None),
    "xla, tf32": (functools.partial(kernels.plain, precision="tf32"), None),
    "fused, float32": (functools.partial(kernels.tower, precision="highest"), EXACT),
    "fused, tf32": (functools.partial(kernels.tower, precision="tf32"), "xla, tf32"),
    "fused, float32, hardware tanh": (functools.partial(kernels.tower, approximate=True), EXACT),
    "fused, tf32, hardware tanh": (functools.partial(kernels.tower, precision="tf32", approximate=True), "xla, tf32"),
}


def example(lanes, rows):
    """Layers, inputs and targets of every lane, on the device."""
    g = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(g.normal(size=(lanes, *shape)), jnp.float32)  # noqa: E731
    layers = [(draw(i, o) * i**-0.5, 0.1 * draw(o)) for i, o in zip(WIDTHS[:-1], WIDTHS[1:], strict=True)]
    return layers, draw(rows, WIDTHS[0]), draw(rows, WIDTHS[-1])


def gradient(tower):
    def loss(layers, x, target):
        return jnp.mean((tower(layers, x, "tanh") - target) ** 2)

    return jax.jit(jax.vmap(jax.grad(loss)))


def error(found, exact):
    """Largest relative error in norm, over lanes and parameters."""
    norm = lambda x: jnp.sqrt(jnp.sum(x**2, axis=tuple(range(1, x.ndim))))  # noqa: E731
    worst = jax.tree.map(lambda a, b: float(jnp.max(norm(a - b) / norm(b))), found, exact)
    return max(jax.tree.leaves(worst))


def stage(lanes, rows, repeats, calls):
    """Every way at one size; `repeats` timings of `calls` calls each."""
    inputs = example(lanes, rows)
    ways = {name: gradient(tower).lower(*inputs).compile() for name, (tower, _) in WAYS.items()}
    found = {name: way(*inputs) for name, way in ways.items()}
    errors = {name: error(gradients, found[EXACT]) for name, gradients in found.items()}
    del found
    seconds = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            for _ in range(calls):
                last = way(*inputs)
            jax.block_until_ready(last)
            seconds[name].append((time.perf_counter() - began) / calls)
    against = {name: other for name, (_, other) in WAYS.items() if other}
    ratios = {n: [t / o for t, o in zip(seconds[other], seconds[n], strict=True)] for n, other in against.items()}
    for name, times in seconds.items():
        line = f"{lanes} x {rows}  {name}: {statistics.median(times) * 1e6:.0f} us, error {errors[name]:.1e}"
        if name in ratios:
            r = spread(ratios[name])
            line += f", {r['median']:.2f}x {against[name]} ({r['min']:.2f} to {r['max']:.2f})"
        print(line, flush=True)
    return {
        "lanes": lanes,
        "rows": rows,
        "seconds": {name: spread(times) for name, times in seconds.items()},
        "ratio": {name: {"against": against[name], **spread(r)} for name, r in ratios.items()},
        "relative_error": errors,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interpret", action="store_true", help="tiny sizes, on any machine; nothing is written")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    if options.interpret:
        found = [stage(lanes, rows, 2, 1) for lanes, rows in ((2, 70), (1, 600))]
        worst = max(max(row["relative_error"].values()) for row in found)
        sys.exit(f"the gradients differ by {worst:.1e}" if worst > 2e-3 else 0)
    if jax.default_backend() != "gpu":
        print(f"benchmarks/kernels.py needs a GPU, this is {jax.default_backend()!r}; --interpret checks it without")
        sys.exit(2)
    rows = [stage(lanes, rows, options.repeats, 10) for lanes, rows in SIZES]
    write_json(RESULTS / "kernels.json", {"widths": WIDTHS, "cpu": cpu(), **record.machine(), "stages": rows})


if __name__ == "__main__":
    main()

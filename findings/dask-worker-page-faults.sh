#!/usr/bin/env bash
# distributed 2026.8.0 with jax 0.10.2: a Dask worker has MALLOC_TRIM_THRESHOLD_=65536 in its environment, so that malloc
# gives memory back at once. glibc then no longer raises the size from which it maps memory anew for each request, and
# every call of a compiled program on the CPU touches new pages: its intermediate arrays, of a few megabytes, are mapped,
# cleared by the kernel and unmapped each time. `distributed.nanny.pre-spawn-environ: {}` takes it away. A sweep of PPO
# took 5 to 10 % longer in such workers, with three times the system time of plain processes.
# Seen: SEEN
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "distributed==2026.8.0" "dask==2026.8.0" "jax==0.10.2" "jaxlib==0.10.2"
cat >"$place/seen.py" <<'PY'
import logging
import os
import resource

import dask
from distributed import Client, LocalCluster


def faults():
    """Pages that a call of a small perceptron's gradient touches for the first time, on average over 50 calls."""
    import jax
    import jax.numpy as jnp

    def loss(w, x):
        for _ in range(4):
            x = jnp.tanh(x @ w)
        return jnp.mean(x**2)

    step = jax.jit(jax.grad(loss))
    w, x = jnp.eye(256) / 16, jnp.ones((4096, 256))
    for _ in range(20):
        jax.block_until_ready(step(w, x))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        jax.block_until_ready(step(w, x))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 50, os.environ.get("MALLOC_TRIM_THRESHOLD_")


def worker(settings):
    with dask.config.set(settings):
        with LocalCluster(1, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL) as cluster:
            with Client(cluster) as client:
                return client.submit(faults).result()


if __name__ == "__main__":
    with_its_setting, value = worker({})
    without, nothing = worker({"distributed.nanny.pre-spawn-environ": {}})
    print(f"page faults a call: {with_its_setting:.0f} with MALLOC_TRIM_THRESHOLD_={value}, {without:.0f} without")
    assert value == "65536" and nothing is None
    assert with_its_setting > 2000 and without < 500
PY
cd "$place"
JAX_PLATFORMS=cpu "$place/venv/bin/python" seen.py

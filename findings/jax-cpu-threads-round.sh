#!/usr/bin/env bash
# jax 0.10.2 on a CPU: the last bits of a result depend on how many threads XLA has, which is the number of cores that the
# process sees, or the environment variable NPROC where that is set. So the same program with the same inputs gives other
# bits on a machine with other cores, or in a job that was given fewer of them. A sum over the rows of a matrix, a
# gradient and a batched product of matrices are split between the threads; a mean of exponentials and the sum of a
# squared matrix product here are not.
# Seen, NPROC=1 against 2: rows, gradient and batched differ, mean and squares do not; 2 against 8: gradient and batched
# differ. Each repeats itself exactly with the same NPROC.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "jax==0.10.2" "jaxlib==0.10.2"
cat >"$place/bits.py" <<'PY'
import sys

import jax
import jax.numpy as jnp
import numpy as np

keys = jax.random.split(jax.random.key(0))
rows = jax.random.normal(keys[0], (2048, 64))
weights = 0.1 * jax.random.normal(keys[1], (64, 64))
halves = rows.reshape(2, 1024, 64)
found = {
    "rows": jax.jit(lambda x: jnp.sum(x, axis=0))(rows),
    "gradient": jax.jit(jax.grad(lambda w: jnp.mean(jax.nn.logsumexp(jnp.tanh(rows @ w), axis=-1))))(weights),
    "batched": jax.jit(jax.vmap(lambda x, y: x.T @ y))(halves, halves**2),
    "mean": jax.jit(lambda x: jnp.mean(jnp.exp(x)))(rows),
    "squares": jax.jit(lambda w: jnp.sum(jnp.tanh(rows @ w) ** 2))(weights),
}
np.savez(sys.argv[1], **{name: np.asarray(x) for name, x in found.items()})
PY
for run in 1 2 8 2-again; do
  NPROC=${run%-again} JAX_PLATFORMS=cpu "$place/venv/bin/python" "$place/bits.py" "$place/$run.npz"
done
"$place/venv/bin/python" - "$place" <<'PY'
import sys

import numpy as np

kept = {run: np.load(f"{sys.argv[1]}/{run}.npz") for run in ("1", "2", "8", "2-again")}
differ = lambda a, b: {name for name in kept[a] if not np.array_equal(kept[a][name], kept[b][name])}  # noqa: E731
for pair in (("1", "2"), ("2", "8"), ("2", "2-again")):
    print(f"NPROC={pair[0]} against {pair[1]}: {', '.join(sorted(differ(*pair))) or 'nothing'} differ")
assert differ("1", "2") == {"rows", "gradient", "batched"}
assert differ("2", "8") == {"gradient", "batched"}
assert not differ("2", "2-again")
PY

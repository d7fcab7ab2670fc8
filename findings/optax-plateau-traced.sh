#!/usr/bin/env bash
# optax 0.2.8: of the numbers of `optax.contrib.reduce_on_plateau`, patience, cooldown and min_scale may be traced (swept
# by vmap, or passed into jit), and factor, rtol and atol may not: they are compared in Python when the transformation is
# made. So a sweep of the factor in one program isn't possible, though its signature has all six beside each other.
# Seen: TracerBoolConversionError for these three, the update for the others.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "optax==0.2.8" "jax==0.10.2"
cat >"$place/seen.py" <<'PY'
import jax
import jax.numpy as jnp
from optax import contrib

VALUES = {"factor": 0.5, "rtol": 1e-3, "atol": 0.0, "patience": 3, "cooldown": 2, "min_scale": 0.1}
seen = {}
for name, value in VALUES.items():

    def update(x, name=name):
        transform = contrib.reduce_on_plateau(**{"factor": 0.5, name: x})
        return transform.update({"w": jnp.ones(2)}, transform.init({"w": jnp.ones(2)}), value=1.0)[0]["w"]

    try:
        jax.jit(update)(jnp.asarray(value))
        seen[name] = "traced"
    except jax.errors.TracerBoolConversionError as error:
        seen[name] = type(error).__name__
    print(f"{name}: {seen[name]}")
assert seen == {
    **dict.fromkeys(("factor", "rtol", "atol"), "TracerBoolConversionError"),
    **dict.fromkeys(("patience", "cooldown", "min_scale"), "traced"),
}
PY
"$place/venv/bin/python" "$place/seen.py"

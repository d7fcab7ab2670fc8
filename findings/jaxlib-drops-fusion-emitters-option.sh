#!/usr/bin/env bash
# The compile option xla_cpu_use_fusion_emitters is taken by jaxlib 0.10.2 and is an error from 0.11.2 on, which names it
# unknown instead of ignoring it: a program that asks for it stops compiling after an upgrade. Needs Python 3.12 or later.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
for version in 0.10.2 0.11.2; do
  "${PYTHON:-python3.12}" -m venv "$place/$version"
  "$place/$version/bin/pip" install -q "jax==$version" "jaxlib==$version"
  "$place/$version/bin/python" - "$version" <<'PY'
import sys

import jax

version = sys.argv[1]
try:
    jax.jit(lambda x: x + 1).lower(1.0).compile({"xla_cpu_use_fusion_emitters": False})
    said = "taken"
except RuntimeError as error:
    said = str(error)
print("jaxlib", version, "-", said)
right = said == "taken" if version == "0.10.2" else "No such compile option: 'xla_cpu_use_fusion_emitters'" in said
sys.exit(not right)
PY
done

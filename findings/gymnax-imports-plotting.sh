#!/usr/bin/env bash
# gymnax 1.0.1: `import gymnax` also imports matplotlib.pyplot, seaborn, pandas and scipy.stats, since two of its
# environments draw themselves (misc/pong.py, bsuite/catch.py and others import them at the top of the file). A program
# that only steps CartPole pays for them at every start: on two cores of a server some 2 of 3 seconds of CPU time.
# Seen: the four modules loaded after `import gymnax`, and none of them needed to make and step CartPole-v1.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "gymnax==1.0.1" "jax==0.10.2" "six==1.17.0"
cat >"$place/seen.py" <<'PY'
import sys
import time

began = time.process_time()
import gymnax

seconds = time.process_time() - began
heavy = [m for m in ("matplotlib.pyplot", "pandas", "scipy.stats", "seaborn") if m in sys.modules]
print("loaded by `import gymnax`:", ", ".join(heavy))
print(f"CPU seconds of the import, jax included: {seconds:.1f}")

import jax

env, params = gymnax.make("CartPole-v1")
used = []


class Watched:
    """Stands in for a module, and notes what is asked of it."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        used.append((self._name, attribute))
        raise AttributeError(attribute)


for module in list(sys.modules.values()):
    if getattr(module, "__name__", "").startswith("gymnax"):
        for name in ("plt", "sns"):
            if hasattr(module, name):
                setattr(module, name, Watched(name))
key = jax.random.key(0)
obs, state = env.reset(key, params)
env.step(key, state, 1, params)
print("asked of pyplot and seaborn by reset and step of CartPole-v1:", used or "nothing")
assert heavy == ["matplotlib.pyplot", "pandas", "scipy.stats", "seaborn"] and not used
PY
"$place/venv/bin/python" "$place/seen.py"

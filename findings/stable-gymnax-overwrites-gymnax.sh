#!/usr/bin/env bash
# stable-gymnax 0.0.1, which popgym-arcade 0.0.7 needs, puts its files into the folder `gymnax`, those of the distribution
# gymnax among them, and pip doesn't object: with both installed, `import gymnax` is a mixture, and whoever needs gymnax 1
# has an environment whose `step` gives five values. popgym-arcade doesn't run on gymnax 1.0.1 either: its environments
# define is_terminal, where 1.0 asks for is_terminated.
# Seen: `pip check` finds nothing, dozens of files belong to both, step gave 6 values before and 5 after.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "gymnax==1.0.1" "jax==0.10.2" "six==1.17.0"
cat >"$place/seen.py" <<'PY'
import sys
from importlib import metadata

import gymnax
import jax

env, params = gymnax.make("CartPole-v1")
_, state = env.reset(jax.random.key(0), params)
values = len(env.step(jax.random.key(1), state, 0, params))
files = [{str(x) for x in metadata.files(name) if x.suffix == ".py"} for name in sys.argv[2:]]
both = set.intersection(*files) if len(files) == 2 else set()
print(f"gymnax {metadata.version('gymnax')}: step gives {values} values; files of both: {len(both)}")
assert values == int(sys.argv[1])
assert len(files) < 2 or len(both) > 20
PY
"$place/venv/bin/python" "$place/seen.py" 6 gymnax
"$place/venv/bin/pip" install --quiet "stable-gymnax==0.0.1"
"$place/venv/bin/pip" check
"$place/venv/bin/python" "$place/seen.py" 5 gymnax stable-gymnax

#!/usr/bin/env bash
# Jumanji 1.1.2 shows the number of steps in two environments otherwise than it declares it. Tetris-v0's observation has
# step_count 0 at every step, while its state counts. Snake-v1 declares step_count as 0 to time_limit - 1 and shows
# time_limit in its last observation, which its own spec refuses.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3.11}" -m venv "$place/venv"
source "$place/venv/bin/activate"
pip install -q jumanji==1.1.2 jax==0.10.2
python - <<'PY'
import importlib.metadata

import jax
import jax.numpy as jnp
import jumanji

print("jumanji", importlib.metadata.version("jumanji"))
world = jumanji.make("Tetris-v0")
state, seen = world.reset(jax.random.key(0))
shown = []
for _ in range(3):
    action = jnp.stack(jnp.unravel_index(jnp.argmax(seen.observation.action_mask), (4, 10)))
    state, seen = jax.jit(world.step)(state, action)
    shown.append(int(seen.observation.step_count))
print("Tetris: shown", shown, "- the state has", int(state.step_count))
tetris = shown == [0, 0, 0] and state.step_count == 3

world = jumanji.make("Snake-v1", time_limit=3)
state, seen = world.reset(jax.random.key(0))
for _ in range(3):
    state, seen = jax.jit(world.step)(state, jnp.argmax(seen.observation.action_mask))
try:
    world.observation_spec.validate(seen.observation)
    said = ""
except ValueError as error:
    said = str(error).splitlines()[0]
print("Snake: last", bool(seen.last()), "step_count", int(seen.observation.step_count), "-", said)
raise SystemExit(not (tetris and seen.last() and said))
PY

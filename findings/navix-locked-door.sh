#!/usr/bin/env bash
# Navix 0.7.4 shows the state of a locked door of KeyCorridor as 254, where its own words for the observation "symbolic"
# have 2: the door is made with `open` 2, and its state is 1 - open + (1 - open) as uint8. A door of DoorKey, made with
# `open` False, shows 2.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3.11}" -m venv "$place/venv"
source "$place/venv/bin/activate"
pip install -q navix==0.7.4 jax==0.10.2
python - <<'PY'
import importlib.metadata

import jax
import navix

print("navix", importlib.metadata.version("navix"))
shown = {}
for name in ("Navix-KeyCorridorS3R1-v0", "Navix-DoorKey-5x5-v0"):
    first = jax.jit(navix.make(name).reset)(jax.random.key(0))
    doors = first.state.entities["door"]
    at = tuple(doors.position[doors.requires != -1][0])
    shown[name] = int(first.observation[at][2])
    print(f"{name}: open {doors.open}, requires {doors.requires}; the locked door's state is {shown[name]}")
raise SystemExit(list(shown.values()) != [254, 2])
PY

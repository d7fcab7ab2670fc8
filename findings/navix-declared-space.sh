#!/usr/bin/env bash
# Navix 0.7.4 declares that an observation "symbolic" goes from 0 to 8; lava is 9 and the player is 10, so every
# observation leaves the space. One who encodes it in as many categories as are declared loses the player.
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

world = navix.make("Navix-Empty-5x5-v0")
shown, space = world.reset(jax.random.key(0)).observation, world.observation_space
print("navix", importlib.metadata.version("navix"), "declares", int(space.minimum), "to", int(space.maximum))
print("greatest number shown:", int(shown.max()), "- shown as a one-hot vector of the space's size, the player's cell is")
encoded = jax.nn.one_hot(shown[1, 1, 0], int(space.n))
print(encoded)
raise SystemExit(not (space.maximum == 8 and shown.max() == 10 and encoded.sum() == 0))
PY

#!/usr/bin/env bash
# gymnax 1.0.1 imports `six` and doesn't declare it. python-dateutil brought it up to 2.9; 4.0.0 no longer does, so a fresh
# install of gymnax alone can't be imported.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
source "$place/venv/bin/activate"
pip install -q gymnax==1.0.1 python-dateutil==4.0.0 jax==0.10.2
python - <<'PY'
import importlib.metadata
import importlib.util

needs = importlib.metadata.requires("gymnax")
print("gymnax", importlib.metadata.version("gymnax"), "declares six:", any(line.startswith("six") for line in needs))
assert importlib.util.find_spec("six") is None, "six is there; something brings it again"
try:
    import gymnax
except ModuleNotFoundError as error:
    print("import gymnax:", error)
    assert error.name == "six"
else:
    raise SystemExit("gymnax is imported without six: this has changed")
PY

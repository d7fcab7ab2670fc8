#!/usr/bin/env bash
# scipy.special.nctdtr, the distribution function of the noncentral t, is NaN in tails where the answer is 0 to double
# precision: at (10, 20, -2.228) for one. A power analysis that adds both tails becomes NaN with it, and a loop that
# waits for power >= .8 never ends. Reference: the integral over the chi distribution, with mpmath.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
source "$place/venv/bin/activate"
pip install -q scipy==1.17.1 mpmath==1.3.0
python - <<'PY'
import mpmath
import scipy
from scipy.special import nctdtr

free, centre, t = 10, 20, -2.228138851986274
found = nctdtr(free, centre, t)
# P(T <= t) = integral of Phi(t sqrt(v / free) - centre) over chi-square v.
density = lambda v: v ** (free / 2 - 1) * mpmath.exp(-v / 2) / (2 ** (free / 2) * mpmath.gamma(free / 2))  # noqa: E731
right = mpmath.quad(lambda v: mpmath.ncdf(t * mpmath.sqrt(v / free) - centre) * density(v), [0, 10, 40, mpmath.inf])
print("scipy", scipy.__version__, "nctdtr:", found, "right:", mpmath.nstr(right, 5))
assert found != found and 0 < right < 1e-80, "this has changed"
PY

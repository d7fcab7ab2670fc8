"""The ends of an axis for data of every kind, and matplotlib's own opinion of them."""

import math

import numpy as np
import pytest

from pgjax.analysis.axis_limits import limits

DATA = {
    "nothing": [],
    "one point": [3.7],
    "zero": [0.0],
    "equal": [-12.5] * 4,
    "equal but for rounding": [0.1 + 0.2, 0.3],
    "equal and large": [1e20, np.nextafter(1e20, 2e20)],
    "NaN": [math.nan] * 3,
    "infinite": [math.inf, -math.inf],
    "some NaN and infinite": [math.nan, 1.0, 2.0, math.inf],
    "huge": [-1.7e308, 1.7e308],
    "the ends of float32": [-3.4e38, 1e-45, 3.4e38],
    "tiny": [5e-324, 1e-320],
    "ordinary": [-1.0, 0.0, 3.0],
}


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("name", DATA)
def test_the_ends_are_finite_and_apart_and_hold_what_can_be_drawn(name, log):
    low, high = limits(DATA[name], log=log)
    assert math.isfinite(low) and math.isfinite(high) and low < high and (low > 0 or not log)
    shown = [x for x in DATA[name] if 1e-150 < abs(x) < 1e150 and (x > 0 or not log)]
    assert all(low < x < high for x in shown)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("name", DATA)
def test_matplotlib_draws_an_axis_with_these_ends_without_a_warning(name, log, tmp_path):
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.set(yscale="log" if log else "linear", ylim=limits(DATA[name], log=log))
    figure.savefig(tmp_path / "figure.png")  # warnings are errors


def test_a_margin_is_a_share_of_what_the_data_span():
    np.testing.assert_allclose(limits([0.0, 10.0], [4.0, math.nan], margin=0.1), (-1, 11))
    np.testing.assert_allclose(limits([1.0, 100.0, -5.0], log=True, margin=0.5), (0.1, 1000))
    np.testing.assert_allclose(limits([2.0], [2.0]), (1, 3))
    np.testing.assert_allclose(limits([8.0], log=True), (4, 16))

"""Rock, paper, scissors: exact exploitability, the growth of self-play's spiral, the band around uniform."""

import pathlib
import runpy

import numpy as np
import pytest

PATH = str(pathlib.Path(__file__).parents[2] / "experiments" / "games.py")


@pytest.fixture(scope="module")
def games():
    return runpy.run_path(PATH)


def loop(first, second, alpha, steps):
    """Self-play by hand: theta += alpha p (A q - p A q), float64."""
    payoff = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    theta, phi = np.array(first, float), np.array(second, float)
    for _ in range(steps):
        p, q = (np.exp(x) / np.exp(x).sum() for x in (theta, phi))
        u, v = payoff @ q, payoff @ p
        theta, phi = theta + alpha * p * (u - p @ u), phi + alpha * q * (v - q @ v)
    return theta, phi


def test_exploitability(games):
    np.testing.assert_allclose(games["exploitability"](np.full(3, 1 / 3)), 0, atol=1e-15)
    np.testing.assert_array_equal(games["exploitability"](np.eye(3)), 1)
    # Against (.5, .2, .3) paper wins .5 - .3.
    np.testing.assert_allclose(games["exploitability"](np.array([0.5, 0.2, 0.3])), 0.2)
    p = np.random.default_rng(0).dirichlet(np.ones(3), 100)
    assert (games["exploitability"](p) > 0).all()  # uniform is the only optimum


def test_self_play_is_the_loop(games):
    path = games["self_play"]((0.3, 0.1, -0.2), (-0.5, 0.4, 0.0), 0.7, 50)
    np.testing.assert_allclose(path[50], loop((0.3, 0.1, -0.2), (-0.5, 0.4, 0.0), 0.7, 50), rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 3.0])
def test_a_small_deviation_grows_by_the_known_factor(games, alpha):
    np.testing.assert_allclose(games["growth"](alpha), np.sqrt(1 + alpha**2 / 27), atol=1e-7)


def test_self_play_spirals_to_the_border(games):
    """sum_a exp(-theta_a), which the flow keeps, grows with every step; so does the exploitability, turn by turn."""
    path = games["self_play"](games["FIRST"], games["FIRST"], 1.0, 20000)[:, 0]
    kept = np.exp(-path).sum(axis=1)
    assert (np.diff(kept) > 0).all()
    now = games["exploitability"](games["softmax"](path))
    assert now[:100].max() < 0.34 and now[-10000:].max() > 0.99
    assert games["turns"](games["softmax"](path))[-1] > 15
    average = games["exploitability"](games["running_mean"](games["softmax"](path)))
    assert average[-1] < 0.05


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.3])
def test_against_a_best_responder_it_stays_in_a_band(games, alpha):
    """Mean step / 9, largest below twice that, both up to terms of higher order."""
    p = games["softmax"](games["against_best_response"](np.array([[1, 0, -1], [0.3, 0.1, 0.7]]), alpha, 6000))
    band = games["exploitability"](p)[3000:] / (alpha / 9)
    assert np.abs(band.mean(axis=0) - 1).max() < 0.02 and band.max() < 2.05


def test_turns(games):
    angle = np.linspace(0, 6 * np.pi, 100)
    p = 1 / 3 + 0.1 * np.cos(angle[:, None] - 2 * np.pi * np.arange(3) / 3)
    np.testing.assert_allclose(games["turns"](p)[-1] - games["turns"](p)[0], 3, atol=1e-12)


def test_the_sampled_step_is_the_exact_one_in_the_mean(games):
    """From where one player stands after noise, the next mean step of both is that of the loop."""
    p = games["sampled"](2.0, 512, 64, 12, 1).astype(float)
    theta = np.log(p)
    expected = np.empty_like(theta[1:])
    for now, following in zip(theta[:-1].reshape(-1, 2, 3), expected.reshape(-1, 2, 3), strict=True):
        following[:] = loop(now[0], now[1], 2.0, 1)
    step, wanted = (x - x.mean(axis=-1, keepdims=True) for x in (theta[1:], expected))
    noise = step - wanted
    z = noise.mean(axis=1) / (noise.std(axis=1) / 8)
    assert np.abs(z).max() < 5
    # And the step is not lost in that noise.
    moved = wanted - (theta[:-1] - theta[:-1].mean(axis=-1, keepdims=True))
    np.testing.assert_allclose((moved * (step - wanted + moved)).sum() / (moved**2).sum(), 1, atol=0.1)


@pytest.mark.slow
def test_games(tmp_path, games):
    found = games["main"](["--smoke", "--out", str(tmp_path)])
    assert (tmp_path / "games.png").stat().st_size > 10_000 and (tmp_path / "summary.json").is_file()
    assert len(found["sampled"]) == 2 and len(found["best_response"]) == 5

"""Evaluations along training: what they measure, when, and that nothing else changes by them."""

import jax
import numpy as np
import pytest
import xarray

import pgjax
from pgjax import rollout
from pgjax.analysis import curve
from pgjax.cli import main
from pgjax.numerics import keys as reserved

SMALL = {"hidden": (4,), "num_steps": 8, "num_envs": 2, "eval_episodes": 3}
OPTIONS = {"seeds": 3, "updates": 7, "progress": False, "width": 3}


def train(**options):
    settings = SMALL | options.pop("settings", {})
    return pgjax.run("a2c", "CartPole-v1", settings=settings, **OPTIONS | options)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    out = tmp_path_factory.mktemp("measured") / "run"
    return train(settings={"eval_every": 3}, snapshots=7, out=out)


def test_it_runs_after_every_so_many_updates_and_changes_no_draw(measured):
    plain = train()
    for name in plain.metrics:  # the compiler rounds another program otherwise
        xarray.testing.assert_allclose(plain.metrics[name], measured.metrics[name], rtol=1e-3, atol=1e-4)
    for kind in ("stochastic", "greedy"):
        found = measured.metrics[f"eval_return_{kind}"].values
        np.testing.assert_array_equal(np.isfinite(found), np.tile([0, 0, 1, 0, 0, 1, 0], (3, 1)) == 1)


def test_it_is_the_mean_return_of_whole_episodes_of_that_updates_policy(measured):
    for seed in range(3):
        for update in (3, 6):
            env, policy, params = measured.lane(seed=seed, update=update)[:3]
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), reserved.ALONG), update)
            for kind, own in zip(("stochastic", "greedy"), jax.random.split(key), strict=True):
                episodes = rollout.evaluate(own, env, policy, params, 3, greedy=kind == "greedy")
                got = measured.metrics[f"eval_return_{kind}"].values[seed, update - 1]
                np.testing.assert_allclose(got, np.mean(episodes.episode_return), rtol=1e-6)


def test_the_curve_has_a_panel_for_each(measured, tmp_path):
    curve(measured.metrics, tmp_path / "with.png")
    curve(train().metrics, tmp_path / "without.png")
    sizes = [(tmp_path / name).read_bytes()[16:20] for name in ("with.png", "without.png")]  # a PNG's width
    assert int.from_bytes(sizes[0], "big") > 2 * int.from_bytes(sizes[1], "big")


def test_it_is_an_option_of_the_command_line_and_refused_on_the_host(tmp_path, capsys):
    words = f"train a2c CartPole-v1 --updates 2 --eval-every 2 --num-envs 2 --out {tmp_path / 'run'}".split()
    assert main.main(words) == 0
    assert "eval_return_greedy" in pgjax.load(tmp_path / "run").metrics
    capsys.readouterr()
    pytest.importorskip("gymnasium")
    assert main.main("train a2c gymnasium:CartPole-v1 --updates 2 --eval-every 2".split()) == 2
    assert "eval_every=2: an environment stepped in Python is evaluated after training alone" in capsys.readouterr().err
    assert main.main("train a2c CartPole-v1 --updates 2 --eval-every -1".split()) == 2
    assert "eval_every must be 0 or more, got -1" in capsys.readouterr().err

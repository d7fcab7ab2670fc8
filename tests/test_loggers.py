"""What reaches TensorBoard and Weights & Biases: means over seeds or single lanes, without what isn't finite."""

import sys

import numpy as np
import pytest

from pgjax import cli, loggers


class Writer:
    def __init__(self):
        self.points, self.closed = [], False

    def write(self, name, update, point):
        self.points.append((name, update, point))

    def close(self):
        self.closed = True


LABELS = [{"learning_rate": rate, "seed": seed} for rate in (1e-3, 1e-2) for seed in (0, 1)]
METRICS = {"loss": np.array([[1.0, 3.0], [5.0, 7.0], [np.nan, np.nan], [2.0, np.nan]]), "kl": np.full((4, 2), np.nan)}


def test_the_seeds_of_a_setting_are_averaged():
    writer = Writer()
    loggers.Logger(writer, lanes=False)(LABELS, 8, METRICS)
    assert writer.points == [
        ("learning_rate=0.001,seeds=0-1", 8, {"loss": 4.0}),
        ("learning_rate=0.01,seeds=0-1", 8, {"loss": 2.0}),
    ]


def test_or_every_lane_has_its_curve():
    writer = Writer()
    loggers.Logger(writer, lanes=True)(LABELS, 8, METRICS)
    assert [name for name, _, _ in writer.points][1] == "learning_rate=0.001,seed=1"
    assert [point for _, _, point in writer.points] == [{"loss": 2.0}, {"loss": 6.0}, {}, {"loss": 2.0}]


@pytest.mark.slow
def test_a_sweep_logs_every_segment(tmp_path, monkeypatch):
    writer = Writer()
    monkeypatch.setitem(loggers.KINDS, "tensorboard", lambda folder: writer)
    words = f"sweep a2c PolicyProbe-pgjax --seeds 3 --updates 4 --width 2 --log tensorboard --out {tmp_path / 'run'} "
    words += "--set hidden=4 num_steps=4 num_envs=2 eval_episodes=2 learning_rate=1e-3,1e-2"
    assert cli.main(words.split()) == 0
    assert writer.closed
    # 3 chunks of 2 lanes, 4 segments each; the second has a lane of either setting.
    assert len(writer.points) == 4 * 4 and {update for _, update, _ in writer.points} == {1, 2, 3, 4}
    assert all(np.isfinite(point["loss"]) for _, _, point in writer.points)


def test_mistakes(capsys, tmp_path):
    words = ["sweep", "a2c", "PolicyProbe-pgjax", "--out", str(tmp_path / "run"), "--log"]
    assert cli.main([*words, "tensorbord"]) == 2
    assert "log: no logger 'tensorbord'; did you mean 'tensorboard'?" in capsys.readouterr().err
    assert cli.main([*words[:-1], "--log-lanes"]) == 2
    assert "--log-lanes needs --log" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_logger_that_is_not_installed_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"log: wandb: the package wandb isn't installed; pip install -e .\.\[wandb\]"):
        loggers.make("wandb", tmp_path)

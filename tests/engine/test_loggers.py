"""What reaches TensorBoard and Weights & Biases: means over seeds or single lanes, without what isn't finite."""

import signal
import sys
import types

import numpy as np
import pytest

import pgjax
from pgjax.cli import main
from pgjax.engine import loggers, progress

LOGGER = loggers.Logger


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
    assert main.main(words.split()) == 0
    assert writer.closed
    # 3 chunks of 2 lanes, 4 segments each; the second has a lane of either setting.
    assert len(writer.points) == 4 * 4 and {update for _, update, _ in writer.points} == {1, 2, 3, 4}
    assert all(np.isfinite(point["loss"]) for _, _, point in writer.points)


@pytest.mark.slow
@pytest.mark.parametrize(("words", "logged"), [("", True), ("--log none", False)])
def test_a_run_that_is_gone_on_with_goes_on_logging(tmp_path, monkeypatch, words, logged):
    writers, asked = [], []

    def make(folder):
        writers.append(Writer())
        return writers[-1]

    monkeypatch.setitem(loggers.KINDS, "tensorboard", make)
    monkeypatch.setattr(loggers, "Logger", lambda writer, lanes: asked.append(lanes) or LOGGER(writer, lanes))
    typed = "sweep a2c PolicyProbe-pgjax --seeds 2 --updates 4 --devices 1 --width 2 --log tensorboard --log-lanes "
    typed += f"--out {tmp_path / 'run'} "
    typed += "--set hidden=4 num_steps=4 num_envs=2 eval_episodes=2"
    update = progress.Progress.update

    def interrupt(self, *arguments):
        update(self, *arguments)
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(progress.Progress, "update", interrupt)
        assert main.main(typed.split()) == 143
    assert [point[1] for point in writers[0].points] == [1, 1] and writers[0].closed
    assert main.main(["resume", str(tmp_path / "run"), *words.split()]) == 0
    assert main.main(["extend", str(tmp_path / "run"), "--updates", "5", *words.split()]) == 0
    assert len(writers) == (3 if logged else 1) and all(asked) and all(writer.closed for writer in writers)
    points = sorted({(name, at) for writer in writers for name, at, _ in writer.points})
    last = 5 if logged else 1
    assert points == [(f"seed={seed}", at) for seed in (0, 1) for at in range(1, last + 1)]


def test_a_curve_goes_on_where_it_was(tmp_path, monkeypatch):
    opened = []

    class Opened:
        def __init__(self, folder, **options):
            opened.append(options)

    board = types.ModuleType("tensorboardX")
    board.SummaryWriter = Opened
    monkeypatch.setitem(sys.modules, "tensorboardX", board)
    (tmp_path / "seed=1").mkdir()
    for name in ("seed=0", "seed=1"):
        loggers.TensorBoard(tmp_path).write(name, 7, {})
    assert opened == [{}, {"purge_step": 7}]  # what was logged from there on, before it was killed, comes again

    begun = []

    def init(**options):
        begun.append(options)
        return types.SimpleNamespace(id=options.get("id", f"made-{options['name']}"), log=lambda point, step: None)

    wandb = types.ModuleType("wandb")
    wandb.init = init
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    for _ in range(2):
        writer = loggers.WeightsAndBiases(tmp_path / "run" / "wandb")
        for name in ("seed=0", "seed=1"):
            writer.write(name, 7, {})
    assert [(x["name"], x.get("id"), x.get("resume")) for x in begun] == [
        ("seed=0", None, None),
        ("seed=1", None, None),
        ("seed=0", "made-seed=0", "allow"),
        ("seed=1", "made-seed=1", "allow"),
    ]


def test_in_python_too(tmp_path, monkeypatch):
    monkeypatch.setitem(loggers.KINDS, "tensorboard", lambda folder: Writer())
    with pytest.raises(ValueError, match="log=tensorboard needs a run folder to be written to; give out"):
        pgjax.run("a2c", "PolicyProbe-pgjax", log="tensorboard")
    with pytest.raises(ValueError, match="log_lanes=True needs log="):
        pgjax.run("a2c", "PolicyProbe-pgjax", log_lanes=True, out=tmp_path / "run")


def test_mistakes(capsys, tmp_path):
    words = ["sweep", "a2c", "PolicyProbe-pgjax", "--out", str(tmp_path / "run"), "--log"]
    assert main.main([*words, "tensorbord"]) == 2
    assert "log: no logger 'tensorbord'; did you mean 'tensorboard'?" in capsys.readouterr().err
    assert main.main([*words[:-1], "--log-lanes"]) == 2
    assert "--log-lanes needs --log" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_logger_that_is_not_installed_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"log: wandb: the package wandb isn't installed; pip install -e .\.\[wandb\]"):
        loggers.make_logger("wandb", tmp_path)

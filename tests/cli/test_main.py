import json
import os
import subprocess
import sys

import pytest

from pgjax.cli import main

TINY = ["--seeds", "2", "--updates", "2", "--num-steps", "4", "--set", "hidden=4", "eval_episodes=2"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.slow
def test_train_writes_the_default_folder_and_prints_a_table(tmp_path, capsys):
    assert main.main(["train", "a2c", "PolicyProbe-pgjax", "--num-envs", "2,4", *TINY, "learning_rate=1e-3,1e-2"]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("a2c-PolicyProbe-pgjax-")
    config = json.loads((folder / "config.json").read_text())
    assert config["command"][:4] == ["pgjax", "train", "a2c", "PolicyProbe-pgjax"]
    assert len(json.loads((folder / "summary.json").read_text())["settings"]) == 4
    said = capsys.readouterr()
    assert "final return" in said.out and "compiled in" in said.err


@pytest.mark.slow
def test_a_loss_and_an_environment_of_ones_own_come_from_a_file(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import pgjax.envs\n"
        "def world():\n    return pgjax.envs.make('PolicyProbe-pgjax')\n"
        "def loss(now, batch, *, beta=1.0):\n    return -beta * now.log_prob * batch.advantage, {}\n"
    )
    words = ["train", "a2c", "--env", "mine.py:world", "--loss", "mine.py:loss", "--num-envs", "2", "--out", "here"]
    assert main.main([*words, "--snapshots", "1", *TINY, "beta=.5,1."]) == 0
    assert len(json.loads((tmp_path / "here" / "summary.json").read_text())["settings"]) == 2

    from pgjax.runs import load

    monkeypatch.chdir("/")
    run = load.load(tmp_path / "here")
    assert run.updates == [0, 2] and run.axes == {"beta": [0.5, 1.0]}
    assert run.lane(seed=1, beta=0.5, update=0)[0].max_steps == 10
    (tmp_path / "mine.py").unlink()
    with pytest.raises(ValueError, match=r"env: no file '/.*/mine.py'; pass env= to load\(\)"):
        load.load(tmp_path / "here")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "pppo", "CartPole-v1"], "no algorithm 'pppo'; did you mean 'ppo'?"),
        (["train", "ppo", "CartPol-v1"], "no environment 'CartPol-v1'; did you mean 'CartPole-v1'?"),
        (["train", "ppo", "CartPole-v1", "--set", "clip_epz=.1"], "no hyperparameter 'clip_epz'; did you mean"),
        (["train", "ppo", "CartPole-v1", "--set", "clip_eps"], "--set takes name=value, got 'clip_eps'"),
        (["train", "ppo", "CartPole-v1", "--set", "clip_eps=.1", "clip_eps=.2"], "--set clip_eps was given twice"),
        (["train", "ppo", "CartPole-v1", "--num-minibatches", "7"], "num_minibatches=7 doesn't divide the batch"),
        (["train", "ppo", "CartPole-v1", "--seeds", "0"], "seeds must be 1 or more, got 0"),
        (["train", "ppo", "CartPole-v1", "--seeds", "some"], "Error parsing --seeds"),
        (
            ["train", "ppo", "CartPole-v1", "--bogus", "3"],
            "no option '--bogus'; a hyperparameter is set by --set bogus=VALUE; see pgjax train --help",
        ),
        (["sweep", "ppo", "CartPole-v1", "--update=3"], "no option '--update'; did you mean '--updates'?; see"),
        (["sweep", "ppo", "CartPole-v1", "--no-log-lane"], "no option '--no-log-lane'; did you mean '--log-lanes'?"),
        (["show", "run", "--bogus"], "no option '--bogus'; leave it out; see pgjax show --help"),
        (["train", "CartPole-v1", "ppo"], "ENV is 'ppo', an algorithm: ALGORITHM comes first"),
        (
            ["train", "mine.py", "CartPole-v1"],
            "no algorithm 'mine.py'; of a file of your own say which object, as mine",
        ),
        (["train", "ppo", "CartPole-v1", "--loss", "mine.py"], "no loss 'mine.py'; of a file of your own say which"),
        (["train", "ppo", "CartPole-v1", "--out", "."], "out: folder '.' exists; choose another or remove it"),
        (["train", "ppo", "CartPole-v1", "--out", "/dev/null/x"], "out: can't make folder '/dev/null/x'"),
        (["train", "ppo", "CartPole-v1", "--steps", "1e3", "--updates", "2"], "give steps or updates, not both"),
        (["train", "ppo", "CartPole-v1", "--snapshots", "-1"], "snapshots must be 0 or more, got -1"),
        (["train", "ppo", "CartPole-v1", "--steps", "many"], "steps must be a whole number, got 'many'"),
        (["train", "ppo", "CartPole-v1", "--num-envs", "8", "--set", "num_envs=16"], "config.num_envs was given twice"),
        (["train", "ppo", "CartPole-v1", "--set", "clip_eps=-1"], "estimator.clip_eps must lie in [0, inf], got -1"),
        (["train", "ppo", "CartPole-v1", "--set", "discount=nan"], "advantage.discount must be a number, got 'nan'"),
        (["list", "gaee"], "no algorithm or plug 'gaee'; did you mean 'gae'?"),
        (["list", "CartPol-v1"], "no environment 'CartPol-v1'; did you mean 'CartPole-v1'?"),
        (["train", "ppo"], "say which environment"),
        (["train", "ppo", "CartPole-v1", "--loss", "nowhere:f"], "--loss: can't import 'nowhere'"),
        (["frain"], ""),
        ([], ""),
    ],
)
def test_bad_input_is_one_line_and_code_2_and_nothing_is_written(tmp_path, capsys, words, message):
    before = sorted(tmp_path.iterdir())
    assert main.main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"pgjax: {message}") and said.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_list_names_every_algorithm_and_every_environment_in_a_line(capsys):
    from pgjax import algorithms, envs

    assert main.main(["list"]) == 0
    said = capsys.readouterr().out
    lines = {line.split()[0] for line in said.splitlines() if line.startswith("  ")}
    assert {*algorithms.ROSTER, *envs.names()} <= lines and len(said.splitlines()) < 100
    assert "gae" in said and "leave_one_out" in said


def test_the_catalogue_has_the_environments_that_there_are():
    from pgjax import envs
    from pgjax.envs.catalogue import ENVIRONMENTS

    assert sorted(ENVIRONMENTS) == sorted(envs.names())


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("ppo", ("Schulman et al. 2017", "clip_eps=0.2", "num_epochs=4", "learning_rate=0.001")),
        ("reinforce", ("Williams 1992", "baseline=none")),
        ("gae", ("advantage gae: discount=0.99 gae_lambda=0.95", "estimator gae: returns=gae", "biased")),
        ("ppo_clip", ("loss ppo_clip: clip_eps=0.2", "estimator ppo_clip")),
        ("adam", ("optimizer adam: learning_rate",)),
    ],
)
def test_list_shows_the_options_of_one(name, parts, capsys):
    assert main.main(["list", name]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert all(part in said for part in parts), said


def test_list_shows_no_option_that_has_no_meaning(capsys):
    assert main.main(["list", "sac"]) == 0
    said = capsys.readouterr().out
    assert "batch_size=128" in said and "num_minibatches" not in said and "epsilon" not in said


def test_the_command_is_installed_and_shows_no_traceback(tmp_path):
    command = [sys.executable, "-m", "pgjax", "train", "ppo", "Nowhere-v0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("pgjax: no environment 'Nowhere-v0'") and "Traceback" not in done.stderr


@pytest.mark.slow
def test_settings_after_every_set_count(tmp_path):
    words = ["train", "a2c", "PolicyProbe-pgjax", "--set", "learning_rate=1e-2", "--num-envs", "2", "--out", "here"]
    assert main.main([*words, *TINY]) == 0
    settings = json.loads((tmp_path / "here" / "config.json").read_text())["settings"]
    assert settings["learning_rate"] == "1e-2" and settings["hidden"] == "4"


LOSSES_THAT_RAISE = """def loss(now, batch):
    return now.logprob, {}


def branch(now, batch, *, beta: float = 1.0):
    if beta > 0:
        return now.value, {}


def inner(now, batch, *, beta: bool = False):
    return helper(None), {}


def helper(x):
    return x + 1
"""


def test_what_a_users_function_raises_is_one_line(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(LOSSES_THAT_RAISE)
    (tmp_path / "broken.py").write_text("def loss(:\n")
    for spec, message in (
        (
            "mine.py:loss",
            "one update raised AttributeError: 'Evaluation' object has no attribute 'logprob' (mine.py, line 2)",
        ),
        ("mine.py:branch", "Attempted boolean conversion of traced array with shape bool[]. (mine.py, line 6)"),
        ("mine.py:inner", "unsupported operand type(s) for +: 'NoneType' and 'int' (mine.py, line 15)"),
        ("broken.py:loss", "--loss: 'broken.py' raised SyntaxError"),
    ):
        assert main.main(["train", "a2c", "PolicyProbe-pgjax", "--loss", spec]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"pgjax: {message}") and said.count("\n") == 1


def test_list_shows_the_parameters_of_an_environment(capsys):
    assert main.main(["list", "CartPole-v1"]) == 0
    assert "env.gravity=9.8" in capsys.readouterr().out

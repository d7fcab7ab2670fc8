"""Plugs, a policy, an environment and an algorithm of the user's own on the command line, and what becomes of them."""

import json

import pytest

from pgjax.cli import main
from pgjax.cli.options import Train
from pgjax.cli.train import _folder
from pgjax.hyperparameters import name_of
from pgjax.runs import load
from pgjax.runs.run import Run
from pgjax.sweeps.user_code import PLUGS

HELPERS = "DISCOUNT = 0.9\n"
MINE = '''
"""Everything of one's own."""
from typing import Annotated

import optax
from helpers_of_mine import DISCOUNT

import pgjax
from pgjax import Algorithm, Range, advantages, declarations, envs, losses, optimizers, policies
from pgjax.algorithms import updates
from pgjax.algorithms.roster import Entry
from pgjax.estimators import adaptive_kl, surrogate


def loss(now, batch, *, beta: Annotated[float, Range(0, 2)] = 1.0):
    """Minus the log-probability, weighed.

    And more.
    """
    return -beta * now.log_prob * batch.advantage, {}


def advantage(trajectory, now, *, discount: float = DISCOUNT):
    """One step."""
    target = trajectory.reward + discount * now.next_value
    return target - now.value, target


def optimizer(*, learning_rate: float = 1e-2, momentum: float = 0.5):
    """Momentum."""
    return optax.sgd(learning_rate, momentum)


def policy(env, config):
    """The usual network."""
    return policies.make(env, config)


def world():
    """The usual probe."""
    return envs.make("PolicyProbe-pgjax")


class World:
    """A class is called, too."""

    def __new__(cls):
        return world()


def unclear(a, b):
    return a


def before(now, batch, beta=1.0):
    return now.value, {}


def swapped(batch, now):
    return now.value, {}


def later(state, trajectory, now):
    return state, (now.value, now.value)


def updater(algorithm, config, by_column, *, length: float = 2.0):
    """One step."""
    return updates.descent(algorithm, config, by_column)


@declarations.plays
def playing(play, traj, now):
    """Plays on."""
    return now.value, now.value


def _remember(state, trajectory, now, *, discount: float = DISCOUNT):
    return state, advantage(trajectory, now, discount=discount)


remembering = pgjax.Running(lambda *_: (), _remember)
estimator = surrogate(losses.actor_critic(losses.policy_gradient))
running = adaptive_kl(surrogate(losses.actor_critic(losses.ppo_clip)))
algorithm = Algorithm(advantage, estimator, optimizers.adam)
entry = Entry(algorithm, summary="one of my own")
number = 3
'''
TINY = "--updates 2 --num-envs 2 --num-steps 4 --set hidden=4 eval_episodes=2".split()
WORLD = ["a2c", "PolicyProbe-pgjax"]


@pytest.fixture(autouse=True)
def files(tmp_path, tmp_path_factory, monkeypatch):
    """The user's files in the folder where the commands run."""
    (tmp_path / "helpers_of_mine.py").write_text(HELPERS)
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    return tmp_path


def objects_of(run):
    return json.loads((run / "config.json").read_text())["objects"]


@pytest.mark.slow
def test_a_run_with_everything_of_ones_own_goes_on_unless_it_was_edited(files, capsys):
    places = ("loss", "advantage", "optimizer", "policy")
    words = [word for place in places for word in (f"--{place}", f"mine.py:{place}")]
    settings = [*TINY, "momentum=0.5,0.9", "beta=0.5"]
    assert main.main(["train", "a2c", "--env", "mine.py:world", *words, *settings, "--seeds", "2", "--out", "run"]) == 0
    objects = objects_of(files / "run")
    assert objects["advantage"]["spec"] == f"{files}/mine.py:advantage"
    for place in (*places, "env"):
        assert set(objects[place]["sources"]) == {f"{files}/mine.py", f"{files}/helpers_of_mine.py"}
    copies = {file.name: file.read_text() for file in (files / "run" / "sources").iterdir()}
    assert copies == {"mine.py": MINE, "helpers_of_mine.py": HELPERS}
    group = load.load("run").plan.groups[0]
    assert group.config.num_envs == 2 and [float(h.optimizer["momentum"]) for h in group.hypers] == [
        0.5,
        pytest.approx(0.9),
    ]
    assert float(group.hypers[0].advantage["discount"]) == pytest.approx(0.9)

    capsys.readouterr()
    assert main.main(["replay", "run", "--lane", "momentum=0.9,seed=1", "--out", "again"]) == 0
    assert "the curve of the run, bit for bit" in capsys.readouterr().out
    assert {file.name for file in (files / "again" / "sources").iterdir()} == set(copies)

    # A number that the file imports alone, and so no function of it has.
    (files / "helpers_of_mine.py").write_text("DISCOUNT = 0.5\n")
    for command in (["resume"], ["extend", "--updates", "3"], ["replay", "--out", "third"]):
        assert main.main([command[0], "run", *command[1:]]) == 2
        said = capsys.readouterr().err
        all_of_it = "pgjax: env, policy, loss, advantage, optimizer: "
        assert said.startswith(f"{all_of_it}{files}/helpers_of_mine.py has changed since the run was begun")
        assert said.count("\n") == 1 and "--edited" in said
    for command in (["show", "run"], ["render", "run", "--lane", "momentum=0.9"]):
        assert main.main(command) == 0
        assert f"{files}/helpers_of_mine.py has changed since the run was begun" in capsys.readouterr().err
    assert main.main(["extend", "run", "--updates", "3", "--edited"]) == 0
    assert Run.open("run").summary["updates"] == [3]
    # The replay of an edited run is of the edited text, and says so: it has another curve, and goes on without a word.
    assert main.main(["replay", "run", "--edited", "--out", "third"]) in (0, 1)
    assert (files / "third" / "sources" / "helpers_of_mine.py").read_text() == "DISCOUNT = 0.5\n"
    assert main.main(["resume", "third"]) == 0
    assert (files / "run" / "sources" / "helpers_of_mine.py").read_text() == HELPERS


@pytest.mark.slow
def test_an_algorithm_and_an_estimator_from_a_file(files, capsys):
    """The estimator is installed functions put together: its file is known by where it was loaded from."""
    words = ["mine.py:entry", "PolicyProbe-pgjax", "--advantage", "td", "--estimator", "mine.py:estimator"]
    words += ["--updater", "mine.py:updater"]
    assert main.main(["train", *words, *TINY, "--out", "run"]) == 0
    objects = objects_of(files / "run")
    assert objects["advantage"] == {"name": "td"} and objects["algorithm"]["spec"] == f"{files}/mine.py:entry"
    assert f"{files}/mine.py" in objects["estimator"]["sources"]
    assert load.load("run").title == "entry on PolicyProbe-pgjax"
    (files / "mine.py").write_text(MINE.replace("(losses.policy_gradient)", "(losses.ppo_clip)"))
    assert main.main(["resume", "run"]) == 2
    assert f"algorithm, estimator, updater: {files}/mine.py has changed since" in capsys.readouterr().err
    (files / "mine.py").unlink()
    assert main.main(["resume", "run"]) == 2
    assert f"algorithm: no file '{files}/mine.py'; pass algorithm= to load(); copies of" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["policy", *PLUGS])
def test_each_option_alone_is_what_is_trained(files, place, monkeypatch):
    jobs = []
    monkeypatch.setattr("pgjax.cli.train.execute", lambda job, *_, **__: jobs.append(job) or 0)
    for command, spec in (("train", f"mine.py:{place}"), ("sweep", f"{files}/mine.py:{place}")):
        assert main.main([command, *WORLD, f"--{place}", spec, *TINY, "--out", command]) == 0
    for job in jobs:
        assert set(job.config["objects"]) == {"algorithm", "env", place}
        assert job.config["objects"][place]["spec"] == f"{files}/mine.py:{place}"
        algorithm, name = job.plan.groups[0].algorithm, {"estimator": "policy_gradient"}.get(place, place)
        assert place == "policy" or name_of(getattr(algorithm, "estimator" if place == "loss" else place)) == name
    monkeypatch.setattr("pgjax.cli.train.execute", lambda job, *_, **__: 0)
    assert main.main(["train", *WORLD, "--optimizer", "sgd", "--loss", "policy_gradient", *TINY, "--out", "named"]) == 0
    assert objects_of(files / "named")["optimizer"] == {"name": "sgd"}


def test_the_default_folder_has_the_name_of_the_algorithm():
    assert _folder(Train("a/mine.py:entry", "CartPole-v1")).startswith("runs/entry-CartPole-v1-")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--advantage", "absent.py:f"], "--advantage: no file 'absent.py'"),
        (["--advantage", "mine.py:advantige"], "--advantage: mine.py has no 'advantige'; did you mean 'advantage'?"),
        (["--advantage", "gaee"], "no advantage 'gaee'; did you mean 'gae'?"),
        (["--estimator", "surrogate"], "--estimator must be module:name or file.py:name, got 'surrogate'"),
        (["--policy", "network"], "--policy must be module:name or file.py:name, got 'network'"),
        (["--optimizer", "broken.py:f"], "--optimizer: 'broken.py' raised SyntaxError: "),
        (["--policy", "nowhere:f"], "--policy: can't import 'nowhere'"),
        (
            ["--advantage", "mine.py:loss"],
            "advantage 'loss' takes (now, batch), its place gives (trajectory, now); write",
        ),
        (
            ["--loss", "mine.py:advantage"],
            "loss 'advantage' takes (trajectory, now), its place gives (now, batch); write",
        ),
        (["--estimator", "mine.py:loss"], "estimator 'loss' takes (now, batch), its place gives (key, policy, params"),
        (["--optimizer", "mine.py:number"], "optimizer must be a function of keyword-only hyperparameters, got an int"),
        (["--optimizer", "optax:adam"], "optimizer 'adam' takes (learning_rate, b1,"),
        (["--policy", "mine.py:world"], "policy 'world' must be a function of (env, config): too many positional"),
        (["--loss", "mine.py:loss", "--estimator", "mine.py:estimator"], "give loss or estimator, not both"),
        (["--advantage", "td", "--advantage", "gae"], "--advantage was given twice"),
    ],
)
def test_a_wrong_plug_is_one_line_and_nothing_is_written(files, capsys, words, message):
    (files / "broken.py").write_text("def f(:\n")
    before = sorted(files.iterdir())
    assert main.main(["train", *WORLD, *words, "--out", "here"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"pgjax: {message}") and said.count("\n") == 1, said
    assert sorted(files.iterdir()) == before


@pytest.mark.parametrize("spec", ["mine.py:loss", "mine.py:absent", "absent.py:x", "pgjax.losses:ppo_clip"])
def test_what_is_no_algorithm_is_one_line(spec, capsys):
    assert main.main(["train", spec, "PolicyProbe-pgjax"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("pgjax: algorithm") and said.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("loss", "loss loss: Minus the log-probability, weighed.\n  beta=1, must lie in [0, 2]\n"),
        ("advantage", "advantage advantage: One step.\n  discount=0.9\n"),
        (
            "estimator",
            "estimator estimator\n  normalize_advantage=false\n  noise=false\n"
            "  value_coef=0.5, must be 0 or more and finite",
        ),
        ("running", "estimator running\n  target_kl=0.01, "),
        ("remembering", "advantage remembering\n  discount=0.9\n"),
        ("playing", "advantage playing: Plays on.\n  no options\n"),
        ("updater", "updater updater: One step.\n  length=2\n"),
        ("optimizer", "optimizer optimizer: Momentum.\n  learning_rate=0.01\n  momentum=0.5\n"),
        ("policy", "policy policy: The usual network.\n"),
        ("world", "environment world: The usual probe.\nworld: observations Box("),
        ("World", "environment World: A class is called, too.\nWorld: observations Box("),
        ("algorithm", "algorithm algorithm\nadvantage: discount=0.9\nestimator: normalize_advantage=false"),
        ("entry", "algorithm entry: one of my own\nadvantage: discount=0.9\n"),
    ],
)
def test_list_tells_what_a_thing_of_ones_own_is(name, said, capsys):
    assert main.main(["list", f"mine.py:{name}"]) == 0
    assert capsys.readouterr().out.startswith(said)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mine.py:number", "mine.py:number is of type int, and no algorithm, plug, policy or environment"),
        (
            "mine.py:unclear",
            "mine.py:unclear takes (a, b): name its arguments (now, batch) of loss or (trajectory, now)",
        ),
        ("mine.py:before", "loss 'before': 'beta' stands before the *; hyperparameters are keyword-only"),
        ("mine.py:swapped", "loss 'swapped' takes (batch, now), its place gives (now, batch); write"),
        ("mine.py:later", "mine.py:later takes (state, trajectory, now): name its arguments (now, batch) of loss or"),
        ("mine.py:los", "list: mine.py has no 'los'; did you mean 'loss'?"),
        ("nowhere:x", "list: can't import 'nowhere'"),
        ("gymnasium:", "no Gymnasium environment"),
    ],
)
def test_list_of_what_is_nothing_is_one_line(spec, message, capsys):
    assert main.main(["list", spec]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and (said.startswith(f"pgjax: {message}") or spec == "gymnasium:")


def test_list_tells_which_algorithms_have_an_option(capsys):
    assert main.main(["list", "max_kl"]) == 0
    assert capsys.readouterr().out == "estimator.max_kl=0.01 of npg, trpo\n"
    assert main.main(["list", "num_steps"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert any(line.startswith("config.num_steps=64 of vpg, ppo, ppo_kl") for line in said) and all(
        line.startswith("config.") for line in said
    )


def test_list_takes_a_module(capsys):
    assert main.main(["list", "pgjax.optimizers:sgd"]) == 0
    assert capsys.readouterr().out.startswith("optimizer sgd: Plain stochastic gradient descent on gradients")

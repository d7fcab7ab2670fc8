"""A run goes on with the source that it was begun with, or says in one line what has changed."""

import functools
import json
import types

import pytest

import pgjax
from pgjax import advantages
from pgjax.cli import main
from pgjax.estimators import surrogate
from pgjax.hyperparameters import name_of
from pgjax.losses import actor_critic, ppo_clip
from pgjax.runs import folder, sources
from pgjax.runs import load as runs_load
from pgjax.runs.run import Run
from pgjax.sweeps import user_code
from pgjax.types import Algorithm

HELPERS = "def weight(x):\n    return 2.0 * x\n"
LOSS = """
import jax.numpy as jnp
import helpers_of_mine

def loss(now, batch, *, beta=1.0):
    return -helpers_of_mine.weight(now.log_prob) * batch.advantage * beta, {}

class World:
    def __init__(self, reward=None):
        self.reward = reward
    def step(self):
        return 1
"""


@pytest.fixture
def files(tmp_path):
    """A loss of the user's in a file, and a module that it imports."""
    (tmp_path / "helpers_of_mine.py").write_text(HELPERS)
    (tmp_path / "mine.py").write_text(LOSS)
    return tmp_path


def load(files, name="loss"):
    return user_code.load(f"{files / 'mine.py'}:{name}", "loss")


def test_the_file_and_what_it_imports(files):
    both = {str(files / "mine.py"), str(files / "helpers_of_mine.py")}
    loss = load(files)
    assert set(sources.digests(loss)) == both
    # Wherever in an object the function is.
    wrapped = Algorithm(functools.partial(loss, beta=2.0), surrogate(actor_critic(loss)), None)
    assert set(sources.digests(wrapped)) == both
    world = load(files, "World")
    assert set(sources.digests(world())) == both and set(sources.digests(world(loss).step)) == both


def test_what_is_installed_has_a_version_instead():
    import optax

    for thing in ("ppo", ppo_clip, optax.adam, surrogate(ppo_clip), json.dumps, None):
        assert sources.digests(thing) == {}


def test_a_function_of_a_script_is_its_own_text_alone(monkeypatch, tmp_path):
    def make(text):
        (tmp_path / "script.py").write_text(text)
        space = {"__name__": "__main__", "__file__": str(tmp_path / "script.py")}
        exec(compile(text, str(tmp_path / "script.py"), "exec"), space)
        return sources.digests(types.FunctionType(space["loss"].__code__, space, "loss"))

    loss = "def loss(x):\n    return x\n"
    before = make(loss)
    assert list(before) == ["loss"] and make(f"{loss}\nprint = 1\n") == before


def test_what_changed():
    assert sources.changed({"a": "1", "b": "2"}, {"elsewhere/b": "2", "elsewhere/a": "1"}) == []
    assert sources.changed({"a": "1", "b": "2"}, {"a": "1", "b": "3"}) == ["b"]
    assert sources.changed({"a": "1"}, {"a": "1", "c": "4"}) == ["c"]
    assert sources.changed({"a": "1", "b": "2"}, {"a": "1"}) == ["b"]


def test_an_edited_loss_is_noticed_by_all_that_trains(files, capsys):
    options = "--set hidden=4 num_steps=4 num_envs=2 eval_episodes=2 --updates 2"
    words = f"train a2c PolicyProbe-pgjax --loss {files / 'mine.py'}:loss {options} --out {files / 'run'}"
    assert main.main(words.split()) == 0
    kept = json.loads((files / "run" / "config.json").read_text())["objects"]["loss"]["sources"]
    assert len(kept) == 2
    runs_load.planned(files / "run", False)
    assert "has changed" not in capsys.readouterr().err

    for file, text in (("mine.py", LOSS.replace("-helpers", "+helpers")), ("helpers_of_mine.py", HELPERS + "\n")):
        (files / file).write_text(text)
        for command in (["resume"], ["extend", "--updates", "3"], ["replay", "--out", str(files / "again")]):
            assert main.main([command[0], str(files / "run"), *command[1:]]) == 2
            said = capsys.readouterr().err
            assert said.count("\n") == 1 and said.startswith(f"pgjax: loss: {files / file} has changed since the run")
            assert "--edited" in said
        assert not (files / "again").exists() and (files / "run" / "summary.json").exists()
        assert main.main(["show", str(files / "run")]) == 0
        assert f"{file} has changed since the run was begun" in capsys.readouterr().err
        (files / file).write_text(LOSS if file == "mine.py" else HELPERS)
    (files / "mine.py").write_text(f"{LOSS}\n# said better\n")
    assert main.main(["extend", str(files / "run"), "--updates", "3", "--edited"]) == 0
    assert Run.open(files / "run").summary["updates"] == [3]


def test_a_folder_of_before_has_no_digests(files, capsys):
    options = {"updates": 1, "settings": {"num_steps": 4, "num_envs": 2, "hidden": (4,), "eval_episodes": 2}}
    pgjax.run("a2c", "PolicyProbe-pgjax", loss=load(files), out=files / "run", progress=False, **options)
    config = json.loads((files / "run" / "config.json").read_text())
    assert config["objects"]["loss"].pop("sources")
    (files / "run" / "config.json").write_text(json.dumps(config))
    runs_load.planned(files / "run", False, loss=load(files))


class Chain:
    def __init__(self, after=None):
        self.after = after


class Asked:
    def __getattr__(self, name):
        raise KeyError(name)


def test_objects_that_hold_themselves_or_answer_no_question(files):
    """Whatever a user's object is made of, its class's file is found and nothing is raised."""
    ring = []
    ring.append(ring)
    chain = None
    for _ in range(3000):
        chain = Chain(chain)
    for thing in (Chain(ring), chain, Asked(), Chain({"text": "x", "numbers": [1, 2.0, None]})):
        assert set(sources.digests(thing)) == {__file__}


def test_a_module_that_holds_a_function_of_a_notebook(files):
    """`__main__` of a notebook has no file."""
    loss = load(files)
    loss.__globals__["hook"] = types.FunctionType((lambda: 1).__code__, {"__name__": "__main__"})
    assert set(sources.digests(loss)) == {str(files / "mine.py"), str(files / "helpers_of_mine.py")}


def test_a_file_that_is_gone_since_it_was_imported(files):
    loss = load(files)
    (files / "helpers_of_mine.py").unlink()
    assert set(sources.digests(loss)) == {str(files / "mine.py")}


def test_a_number_that_a_file_imports_is_of_its_sources_too(tmp_path):
    (tmp_path / "numbers_of_mine.py").write_text("BETA = 2.0\n")
    (tmp_path / "late_of_mine.py").write_text("GAMMA = 2.0\n")
    late = "    from late_of_mine import GAMMA\n    return BETA * GAMMA\n"
    (tmp_path / "of_numbers.py").write_text(f"from numbers_of_mine import BETA\ndef loss(now, batch):\n{late}")
    loss = user_code.load(f"{tmp_path}/of_numbers.py:loss", "--loss")
    assert loss(0, 0) == 4.0
    names = ("numbers_of_mine", "late_of_mine", "of_numbers")
    assert set(sources.digests(loss)) == {f"{tmp_path}/{name}.py" for name in names}


def test_the_file_of_an_object_made_of_installed_functions_is_where_it_was_loaded_from(tmp_path):
    (tmp_path / "put.py").write_text(
        "from pgjax import estimators, losses\nmine = estimators.surrogate(losses.ppo_clip)\n"
    )
    spec = f"{tmp_path}/put.py:mine"
    mine = user_code.load(spec, "--estimator")
    assert sources.digests(mine) == {}
    assert list(sources.digests(mine, spec)) == [f"{tmp_path}/put.py"]
    (tmp_path / "put.py").unlink()
    assert sources.digests(mine, spec) == {}


def test_copies_of_one_name_are_numbered_and_large_files_are_left_out(tmp_path):
    losses = []
    for i, place in enumerate("abc"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "same.py").write_text(f"def loss(now, batch):\n    return {i}\n" + (i == 2) * "#" * 2**20)
        losses.append(user_code.load(f"{tmp_path}/{place}/same.py:loss", "--loss"))
    found = sources.copies((loss, None) for loss in (*losses, losses[0], "gae", None))
    assert {name: text[-2:] for name, text in found.items()} == {"same.py": b"0\n", "same-2.py": b"1\n"}
    assert list(sources.copies([(test_what_changed, None)])) == ["test_sources.py"]


@pytest.mark.slow
def test_a_plug_that_cannot_be_imported_again_is_passed_again(tmp_path):
    def mine(trajectory, now, *, discount=0.9):
        return advantages.td(trajectory, now, discount=discount)

    options = {"updates": 2, "settings": {"num_steps": 4, "num_envs": 2, "hidden": (4,), "eval_episodes": 2}}
    out = tmp_path / "run"
    before = pgjax.run("a2c", "PolicyProbe-pgjax", advantage=mine, out=out, progress=False, **options)
    with pytest.raises(ValueError, match=r"advantage: '.*mine .*' of '.*' can't be imported again; pass advantage= to"):
        pgjax.load(out)
    assert name_of(pgjax.load(out, advantage=mine).plan.groups[0].algorithm.advantage) == "mine"
    again = pgjax.replay(out, seed=0, advantage=mine, progress=False)
    assert again.metrics.loss.values.tolist() == before.metrics.loss.values.tolist()
    assert "advantage='" in before.call and (out / "sources" / "test_sources.py").is_file()
    assert pgjax.resume(out, advantage=mine, progress=False).summary["updates"] == [2]


def test_a_folder_that_is_discarded_leaves_no_copies_and_takes_nothing_elses(tmp_path):
    (tmp_path / "sources").mkdir()
    made = folder.create(tmp_path / "new" / "run", {}, {"mine.py": b"x = 1\n"})
    assert (tmp_path / "new" / "run" / "sources" / "mine.py").read_text() == "x = 1\n"
    folder.discard([*made, tmp_path])
    assert sorted(tmp_path.iterdir()) == [tmp_path / "sources"]

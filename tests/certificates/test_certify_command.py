"""`pgjax certify`: what it prints and writes; the test that it offers passes; bad input is one line."""

import json
import sys

import pytest

from pgjax import testing
from pgjax.cli.main import main
from pgjax.losses import policy_gradient

LOSS = """
import jax


def damped(now, batch, *, power: float = 1.0):
    weight = jax.numpy.exp(power * jax.lax.stop_gradient(now.log_prob))
    return -weight * batch.advantage * now.log_prob, {}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "own_loss.py").write_text(LOSS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_printed_and_written(folder, capsys, monkeypatch):
    words = "certify own_loss.py:damped --worlds stopping --batch 2 --discount 1 --set power=2 --out found"
    assert main(words.split()) == 0
    said = capsys.readouterr().out
    assert said.startswith("damped (loss): the mean update is the gradient of nothing\n")
    assert "The smallest example: stopping, discount 1, 2 episodes" in said and "the Jacobian is not symmetric" in said
    found = json.loads((folder / "found" / "certificate.json").read_text())
    assert found["verdict"] == "gradient of nothing" and found["cases"][0]["asymmetry"]["row"] >= 0
    page = (folder / "found" / "certificate.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and "The smallest example" in page and "stop for 0, 2 or 1" in page
    test = said[said.index("import numpy as np") : said.index("written to")]
    monkeypatch.syspath_prepend(str(folder))
    scope = {}
    exec(test, scope)
    scope["test_what_damped_ascends"]()
    sys.modules.pop("own_loss", None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "give a plug, such as file.py:my_loss or a name of `pgjax list`, or --roster"),
        ("ppo --roster", "give a plug"),
        ("--roster --set a=1", "leave --kind and --set out"),
        ("own_loss.py:other", "has no 'other'"),
        ("own_loss.py:damped --set power=x", "power must be a number"),
        ("own_loss.py:damped --batch 1.5", "batch must be a whole number"),
        ("own_loss.py:damped --discount 2", "--discount must lie in (0, 1]"),
        ("own_loss.py:damped --worlds mars", "no world 'mars'"),
        ("own_loss.py:damped --kind tree", "there is no 'tree'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(folder, capsys, words, said):
    before = sorted(folder.iterdir())
    assert main(["certify", *words.split()]) == 2
    shown = capsys.readouterr().err
    assert said in shown and shown.count("\n") == 1
    assert [x for x in sorted(folder.iterdir()) if x.name not in ("__pycache__", "runs")] == before
    assert not list((folder / "runs").glob("*"))


def test_check_ascends():
    options = {"worlds": ["bandit"], "batch": [1], "discount": 1.0}
    testing.check_ascends(policy_gradient, **options)
    with pytest.raises(AssertionError, match=r"(?s)the gradient of another objective.*def test_what_"):
        testing.check_ascends(lambda now, batch: (batch.advantage * now.log_prob, {}), kind="loss", **options)
    with pytest.raises(ValueError, match="there is no 'good'"):
        testing.check_ascends(policy_gradient, "good")

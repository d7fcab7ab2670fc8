"""The README's examples are run as they stand."""

import pathlib
import re
import shlex

import pytest

from pgjax import algorithms
from pgjax.cli import main, variance
from pgjax.runs import start
from pgjax.sweeps import plan

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
COMMANDS = [x.split(" && ")[0] for x in README.splitlines() if re.match("pgjax (train|sweep) [a-z]+ ", x)]
MEASURES = re.findall(r"pgjax variance (?!--params).*", README)


@pytest.mark.slow
@pytest.mark.parametrize("source", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_python_examples_run(source, monkeypatch):
    execute = start.execute
    monkeypatch.setattr(start, "execute", lambda job, progress=True, watch=None: execute(job, progress=False))
    exec(compile(source, "README.md", "exec"), {})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Accessing:DeprecationWarning", "ignore:Brax System:UserWarning")
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_valid(command, monkeypatch):
    for prefix, package in (("gymnasium:", "Box2D"), ("brax:", "brax")):
        if prefix in command:
            pytest.importorskip(package)
    planned = []

    def plan_only(*arguments, out, command, specs, snapshots, **options):
        for name in ("memory", "width", "devices", "shard", "checkpoint", "halving", "log", "log_lanes"):
            options.pop(name, None)
        planned.append(plan.plan(*arguments, **options))
        raise ValueError("planned")

    monkeypatch.setattr(start, "new_job", plan_only)
    monkeypatch.chdir(pathlib.Path(__file__).parent.parent)
    assert main.main(shlex.split(command)[1:]) == 2
    assert planned and planned[0].groups


@pytest.mark.parametrize("command", MEASURES)
def test_measurements_are_valid(command, monkeypatch, tmp_path):
    monkeypatch.chdir(pathlib.Path(__file__).parent.parent)
    measurement, planned = variance.measurement, []

    def plan_only(options, words):
        options.out = str(tmp_path / "out")
        planned.append(measurement(options, words))
        raise ValueError("planned")

    monkeypatch.setattr(variance, "measurement", plan_only)
    assert main.main(shlex.split(command)[1:]) == 2
    assert planned


def test_the_picture_and_the_files_it_speaks_of_exist():
    root = pathlib.Path(__file__).parent.parent
    for path in re.findall(r"\]\((?!http)([^)]+)\)", README) + re.findall(r"experiments/\w+\.py", README):
        assert (root / path).is_file(), path


def test_the_readme_names_no_algorithm_that_is_not_there():
    assert {command.split()[2] for command in COMMANDS} <= set(algorithms.ROSTER)

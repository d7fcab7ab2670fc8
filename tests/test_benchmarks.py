"""What the benchmarks replace or look up in the package is there: they themselves run too long for a test."""

import importlib
import importlib.metadata
import pathlib

import pytest

from pgjax.cli.options import COMMANDS

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def test_every_trick_can_be_undone(benchmark):
    for _, context, *_ in benchmark("tricks").TRICKS.values():
        with context():
            pass


def test_loops_can_be_made_unending(benchmark):
    with benchmark("training").unending():
        pass


def test_the_versions_of_our_side_are_found(benchmark):
    assert all(importlib.metadata.version(name) for name in benchmark("peer_pgjax").PACKAGES)


def test_the_small_look_is_compared_with_what_is_stored(benchmark):
    suite = benchmark("suite")
    found = dict(suite.compared(suite.RESULTS))
    assert len(found) > 20 and set(found.values()) == {1.0}
    assert {what.partition(":")[0] for what in found} == {"training", "peers", "lanes", "compiling"}


def test_what_is_timed_against_another_commit_is_a_command(benchmark):
    targets = benchmark("targets")
    compile(targets.AGAIN, "again", "exec")
    assert {what for *_, what in targets.CASES.values()} == {"wall", "trained"}
    assert {words.split()[0] for words, *_ in targets.CASES.values()} <= set(COMMANDS)

"""Ray: a cluster of our own."""

import os
import sys

import pytest
import toys

from pgjax.executors import connect

ray = pytest.importorskip("ray")


def _environment(path):
    toys.write(path, os.environ["JAX_NUM_CPU_DEVICES"])


@pytest.mark.slow
def test_calls_run_and_their_failures_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    engine = connect("ray", 1, tmp_path)
    tasks = [engine.submit(toys.write, tmp_path / str(i)) for i in range(3)]
    assert [toys.failure(task) for task in tasks] == [None] * 3
    assert engine.workers == 1 and (tmp_path / "2").exists()
    assert repr(toys.failure(engine.submit(toys.fail))) == "ValueError('a call of this kind fails')"
    assert isinstance(toys.failure(engine.submit(toys.die)), ray.exceptions.WorkerCrashedError)
    assert toys.failure(engine.submit(_environment, tmp_path / "devices")) is None
    assert (tmp_path / "devices").read_text() == "1"
    second = connect("ray", 1, tmp_path)
    second.close()
    assert toys.failure(engine.submit(toys.nothing)) is None  # the cluster is the first one's
    engine.close()
    assert not ray.is_initialized()


def test_a_cluster_that_does_not_answer_is_one_line():
    for address in ("127.0.0.1:1", "nonsense", "auto"):
        with pytest.raises(ValueError, match="^on: no Ray cluster at .*; start one by `ray start --head`$") as caught:
            connect(f"ray:{address}", None, None)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="workers: the cluster at auto has its own; leave workers=2 out"):
        connect("ray:auto", 2, None)

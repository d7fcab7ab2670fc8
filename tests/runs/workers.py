"""A small sweep, and workers that share it: threads, each with an engine and leases of its own."""

import concurrent.futures

import xarray

import pgjax
from pgjax.engine import trainer
from pgjax.engine.leases import Shared
from pgjax.runs import start, worker

TINY = {"hidden": (4,), "num_steps": 4, "num_envs": 8, "eval_episodes": 2}
SWEEP = {"seeds": 5, "updates": 20, "width": 2, "checkpoint": 0.0}
RATES = {**TINY, "learning_rate": [1e-3, 1e-2]}
WORDS = "sweep a2c PolicyProbe-pgjax --seeds 5 --updates 20 --width 2 --checkpoint 0 "
SET = "--set hidden=4 num_steps=4 num_envs=8 eval_episodes=2 learning_rate=1e-3,1e-2 "


def sweep(settings=RATES, algorithm="a2c", **options):
    return pgjax.run(algorithm, "PolicyProbe-pgjax", settings=settings, progress=False, **{**SWEEP, **options})


def begun(path, settings=RATES, **options):
    """A folder in which nothing is trained yet."""
    return start.new_job("a2c", "PolicyProbe-pgjax", settings=settings, out=path, **{**SWEEP, **options}).path


def workers(path, count):
    """So many workers at once, until none has anything left to do."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        for one in [pool.submit(worker.work, path, progress=False) for _ in range(count)]:
            one.result()
    return pgjax.load(path)


def failing(monkeypatch, number):
    """Chunk `number` fails in every attempt; returns the numbers of those that were begun."""
    train, tried = trainer.Engine.train, []

    def wrong(self, schedule, which, *rest):
        tried.append(which)
        if which == number:
            raise ZeroDivisionError("a bad world")
        return train(self, schedule, which, *rest)

    monkeypatch.setattr(trainer.Engine, "train", wrong)
    return tried


def assert_identical(run, other):
    xarray.testing.assert_identical(run.metrics.load(), other.metrics.load())
    assert run.schedule.chunks == other.schedule.chunks and run.schedule.widths == other.schedule.widths


def what(path, number):
    return [event.what for event in Shared(path).events(number)]

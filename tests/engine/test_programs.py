"""XLA's options change between releases of jaxlib; what is asked of it must not."""

import pytest

import pgjax
from pgjax.engine import programs

KNOWN, UNKNOWN = {programs.LEVEL: 0}, {"xla_no_such_option": True}


def test_an_option_that_jaxlib_does_not_take_is_left_out():
    assert programs.accepted({**KNOWN, **UNKNOWN}) == KNOWN
    assert programs.accepted({programs.LEVEL: "not a level"}) == {}


@pytest.mark.parametrize("effort", ["SMALL", "OFTEN", "ONCE"])
def test_training_goes_on_without_an_option_that_jaxlib_does_not_take(monkeypatch, effort):
    monkeypatch.setenv("XLA_FLAGS", "")  # as a user's: the tests' own level would switch pgjax's options off
    monkeypatch.setattr(programs, effort, {**KNOWN, **UNKNOWN})
    run = pgjax.run(
        "reinforce",
        "CartPole-v1",
        updates=1,
        settings={"num_envs": 2, "hidden": (4,), "eval_episodes": 1, "env.max_steps_in_episode": 5},
        progress=False,
    )
    assert not run.summary["failed_lanes"]
